"""The identity of a data set."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from pathlib import Path


def digest_of(path: Path | str) -> str:
    """SHA-256 over a file, or over the sorted names and bytes of a folder's files; links are followed."""
    path, total = Path(path), hashlib.sha256()
    for file in [path] if path.is_file() else sorted(_files(path, (path.resolve(),))):
        total.update(file.relative_to(path).as_posix().encode() + file.read_bytes())
    return total.hexdigest()


def _files(folder: Path, above: tuple[Path, ...]) -> Iterator[Path]:
    """Files below a folder, also through links to folders, though never round in a circle."""
    for entry in folder.iterdir():
        if not entry.is_dir():
            yield from [entry] if entry.is_file() else []
        elif (real := entry.resolve()) not in above:
            yield from _files(entry, (*above, real))
