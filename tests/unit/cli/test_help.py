"""What `--help` says of every command, and what it costs."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from typing import Any

from tests.command_line import run
from vouch.cli.main import root


def test_every_command_has_help_with_an_example() -> None:
    for path in _commands(root):
        shown = run(*path, "--help").stdout
        assert "Examples:" in shown, path
        assert "--json" in shown, path


def test_a_terminal_that_lacks_characters_ends_no_command() -> None:
    ascii_only = {**os.environ, "PYTHONIOENCODING": "ascii", "LC_ALL": "C", "PYTHONUTF8": "0"}
    done = subprocess.run(
        [sys.executable, "-m", "vouch", "--help"], env=ascii_only, check=True, capture_output=True, text=True
    )
    assert "\\u00b7" in done.stdout


def _commands(app: Any, path: tuple[str, ...] = ()) -> Iterator[tuple[str, ...]]:
    for one in app.registered_commands:
        yield (*path, one.name)
    for group in app.registered_groups:
        yield from _commands(group.typer_instance, (*path, group.name) if group.name else path)


def test_help_imports_nothing_heavy() -> None:
    script = (
        "import sys; from vouch.cli.main import root\n"
        "try: root(['--help'])\n"
        "except SystemExit: pass\n"
        "heavy = {'torch', 'ray', 'diffusers', 'grpc', 'numpy', 'pyarrow', 'sqlalchemy', 'PIL'} & set(sys.modules)\n"
        "sys.exit(', '.join(sorted(heavy)) or 0)"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
