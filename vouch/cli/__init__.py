"""The `vouch` command. One file per group of commands; `main.py` puts them together."""

from __future__ import annotations


def app() -> None:
    """Entry point of the console script."""
    from vouch.cli.main import root

    root(prog_name="vouch")
