"""``vouch logs``: rejected and failed calls, from the state folder of a system on this machine."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.text import Text

from vouch.cli import render
from vouch.cli.session import Session, command
from vouch.errors import NotFound
from vouch.formats.escapes import visible_lines
from vouch.storage.state import StateFolder

app = typer.Typer()
COLUMNS = ("at", "code", "reason", "rpc", "role", "reference")


@command(
    app,
    "logs",
    """
    vouch logs
    vouch logs 3f786850e387
    vouch logs --limit 1000 --json | jq '.calls[] | select(.code == "INTERNAL")'
    """,
)
def logs(
    session: Session,
    reference: Annotated[
        str,
        typer.Argument(
            help="Error reference from an error message; shows the traceback of an internal error."
        ),
    ] = "",
    limit: Annotated[int, typer.Option(min=1, help="Maximum number of calls, the newest.")] = 50,
) -> None:
    """Show calls that were rejected or failed, newest last. Reads the state folder, on the machine of the system.

    The log of a rejected call contains no text of the caller.
    """
    folder = StateFolder(session.state or Path("state"))
    if not folder.logs.is_dir():
        raise NotFound(
            f"No system has been started on {folder.root}: name its folder with --state.", "NO_SYSTEM"
        )
    if reference:
        _show_one(session, folder, reference)
        return
    newest = sorted(entries(folder.logs), key=lambda entry: str(entry["at"]))[-limit:]
    calls = [{name: value for name, value in entry.items() if name != "trace"} for entry in newest]
    session.emit(
        {"calls": calls},
        lambda: render.table(COLUMNS, map(_row, calls), empty="No call was rejected or failed."),
    )


def _show_one(session: Session, folder: StateFolder, reference: str) -> None:
    entry = next((entry for entry in entries(folder.logs) if entry.get("reference") == reference), None)
    if entry is None:
        raise NotFound(
            f"{folder.logs} has no entry with the reference {reference}; old entries are removed.",
            "UNKNOWN_REFERENCE",
        )
    known = {name: value for name, value in entry.items() if name != "trace"}
    session.emit(
        entry,
        lambda: render.facts({**known, "trace": Text(visible_lines(entry.get("trace", "")))}),
    )


def entries(folder: Path) -> Iterator[dict[str, Any]]:
    """Every complete entry; a killed process may have left an incomplete last line."""
    for file in sorted(folder.glob("calls-*.jsonl*")):
        for line in file.read_text("utf-8", "replace").splitlines():
            try:
                entry = json.loads(line)
            except ValueError:
                continue
            if isinstance(entry, dict) and "at" in entry:
                yield entry


def _row(entry: dict[str, Any]) -> tuple[Any, ...]:
    return tuple(
        Text(str(entry.get(name, "")), style="red" if entry.get("level") == "ERROR" else "")
        for name in COLUMNS
    )
