"""Commands of `vouch` in this process."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from typer.testing import CliRunner

from vouch.cli.main import root
from vouch.testing import flat_png


def run(*arguments: object, code: int = 0, keys: str | None = None) -> Any:
    """The result of a command that ends with `code`; `keys` are typed."""
    result = CliRunner().invoke(root, [str(a) for a in arguments], input=keys)
    assert result.exit_code == code, result.output
    assert "Traceback" not in result.output
    return result


def run_json(*arguments: object, code: int = 0, keys: str | None = None) -> Any:
    """What the command prints with --json."""
    return json.loads(run(*arguments, "--json", code=code, keys=keys).stdout)


def image_folder(folder: Path) -> Path:
    """Forty captioned images, dark and bright, and one that is none."""
    folder.mkdir()
    for level in [*range(20), *range(200, 220)]:
        (folder / f"{level:03d}.png").write_bytes(flat_png(level))
        (folder / f"{level:03d}.txt").write_text("neutrophil")
    (folder / "broken.png").write_bytes(b"GIF is what this is not")
    (folder / "broken.txt").write_text("neutrophil")
    return folder
