"""``vouch audit``: what operators did, and whether its log is whole."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Annotated

import typer
from rich.text import Text

from vouch.cli import render
from vouch.cli.session import Session, command
from vouch.errors import DataLoss

if TYPE_CHECKING:
    from vouch.types.audit import AuditEntry, VerifyAuditResponse

app = typer.Typer(help="Show what operators did, and verify the log of it.", no_args_is_help=True)


@command(
    app,
    "list",
    """
    vouch audit list
    vouch audit list --limit 5 --json
    """,
)
def list_(
    session: Session, limit: Annotated[int, typer.Option(min=1, max=1000, help="At most this many.")] = 20
) -> None:
    """List what operators did, newest first."""
    with session.connect() as client:
        entries = list(client.list_audit_entries(limit=limit))
    columns = ("#entry", "when", "by", "what", "of", "details")
    session.emit(
        {"entries": entries},
        lambda: render.table(columns, map(_row, entries), empty="Nothing was done yet."),
    )


@command(
    app,
    "verify",
    """
    vouch audit verify
    vouch audit verify --head 3f1c0a9b...
    """,
)
def verify(
    session: Session,
    head: Annotated[
        str, typer.Option(help="A head that `vouch status` printed earlier: it has to be in the log still.")
    ] = "",
) -> None:
    """Verify that no entry was edited or cut out. Exits with an error when one was."""
    with session.connect() as client:
        verdict = client.verify_audit(head=head)
    if not verdict.intact:
        raise DataLoss(f"The audit log is not whole: {verdict.reason}.", "AUDIT_BROKEN")
    session.emit(verdict, lambda: _whole(verdict))


def _whole(verdict: VerifyAuditResponse) -> Text:
    return Text(
        f"{verdict.entries} entries, each as it was written. Head: {verdict.head or 'none'}", style="green"
    )


def _row(entry: AuditEntry) -> tuple[str, ...]:
    details = json.dumps({key: value for key, value in entry.details.items() if value not in ("", None)})
    when = f"{entry.at:%Y-%m-%d %H:%M:%S}" if entry.at else ""
    return (str(entry.number), when, entry.actor, entry.action, entry.subject, details)
