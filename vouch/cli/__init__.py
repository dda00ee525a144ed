"""The `vouch` command. One file per group of commands; `main.py` joins them."""

from __future__ import annotations


def app() -> None:
    """Entry point of the console script."""
    import sys

    from vouch.cli.main import root
    from vouch.formats.escapes import spell_out

    spell_out(sys.stdout)
    root(prog_name="vouch")
