"""``vouch audit``: list and verify the audit log of operators' actions."""

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

app = typer.Typer(help="List and verify the audit log of operators' actions.", no_args_is_help=True)


@command(
    app,
    "list",
    """
    vouch audit list
    vouch audit list --limit 5 --json
    """,
)
def list_(
    session: Session,
    limit: Annotated[int, typer.Option(min=1, max=1000, help="Maximum number of entries.")] = 20,
) -> None:
    """List operators' actions, newest first."""
    with session.connect() as client:
        entries = list(client.list_audit_entries(limit=limit))
    columns = ("#entry", "when", "by", "action", "subject", "details")
    session.emit(
        {"entries": entries},
        lambda: render.table(columns, map(_row, entries), empty="The audit log is empty."),
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
        str, typer.Option(help="Head that `vouch status` printed earlier; the log must still contain it.")
    ] = "",
) -> None:
    """Verify that no entry was changed or removed. Exits with an error if one was."""
    with session.connect() as client:
        verdict = client.verify_audit(head=head)
    if not verdict.intact:
        raise DataLoss(f"The audit log failed verification: {verdict.reason}.", "AUDIT_BROKEN")
    session.emit(verdict, lambda: _verified(verdict))


def _verified(verdict: VerifyAuditResponse) -> Text:
    return Text(f"{verdict.entries} entries verified. Head: {verdict.head or 'none'}", style="green")


def _row(entry: AuditEntry) -> tuple[str, ...]:
    details = json.dumps({key: value for key, value in entry.details.items() if value not in ("", None)})
    when = f"{entry.at:%Y-%m-%d %H:%M:%S}" if entry.at else ""
    return (str(entry.number), when, entry.actor, entry.action, entry.subject, details)
