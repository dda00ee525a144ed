"""The identity of a data set."""

from __future__ import annotations

import hashlib
from pathlib import Path


def digest_of(path: Path | str) -> str:
    """SHA-256 over a file, or over the sorted names and bytes of a folder's files."""
    path, total = Path(path), hashlib.sha256()
    for file in [path] if path.is_file() else sorted(p for p in path.rglob("*") if p.is_file()):
        total.update(file.relative_to(path).as_posix().encode() + file.read_bytes())
    return total.hexdigest()
