"""``vouch status``: what serves."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import typer
from rich.console import Group
from rich.text import Text

from vouch.cli import render
from vouch.cli.session import Session, command
from vouch.errors import FailedPrecondition, Unavailable

if TYPE_CHECKING:
    from vouch.client import Client
    from vouch.types.serving import GetServingResponse, ServingSlot

app = typer.Typer()


@command(
    app,
    "status",
    """
    vouch status
    vouch status --json | jq '.slots[] | {slot, champion_name, converged}'
    """,
)
def status(session: Session) -> None:
    """Show which versions serve, whether every replica follows, and what could not be loaded."""
    with session.connect() as client:
        serving = client.get_serving()
        address = client.address
        fallback_reason, kernel = _drawing(client)
    status = {
        "address": address,
        **render.plain(serving),
        "fallback_reason": fallback_reason,
        "kernel": kernel,
    }
    session.emit(status, lambda: _view(address, serving, fallback_reason, kernel))


def _drawing(client: Client) -> tuple[str, str]:
    """Why the generator draws images whole (empty when it goes step by step), and how its U-Net is computed; nothing
    when nothing is loaded."""
    try:
        generator = client.describe_generator()
    except (Unavailable, FailedPrecondition):
        return "", ""
    return generator.fallback_reason, generator.kernel


def _view(address: str, serving: GetServingResponse, fallback_reason: str, kernel: str) -> Any:
    columns = ("slot", "serves", "digest", "candidate", "replicas", "state")
    started = f", started {render.ago(serving.started_at)}" if serving.started_at else ""
    parts: list[Any] = [
        Text(f"vouch {serving.vouch_version} at {address}{started}", style="bold"),
        render.table(columns, map(_row, serving.slots), empty="Nothing serves yet."),
    ]
    if kernel:
        parts.append(Text(f"U-Net {kernel}", style="dim"))
    if serving.audit_head:
        parts.append(Text(f"audit log ends with {serving.audit_head}", style="dim"))
    if fallback_reason:
        parts.append(Text(f"Images are drawn whole, one request after another: {fallback_reason}", "yellow"))
    for slot in serving.slots:
        for replica in slot.replicas:
            if not replica.ok:
                serves = "serves on with what it had" if replica.champion_version else "serves nothing"
                parts.append(Text(f"{slot.slot} {replica.replica_id} {serves}: {replica.reason}", "red"))
    return Group(*parts)


def _row(slot: ServingSlot) -> tuple[str | Text, ...]:
    candidate = f"{slot.candidate_name} at {slot.candidate_percent} %" if slot.candidate_version else "none"
    following = sum(1 for one in slot.replicas if one.ok and one.revision == slot.revision)
    state = Text("converged", style="green") if slot.converged else Text("converging", style="yellow")
    return (
        slot.slot,
        slot.champion_name,
        render.digest(slot.champion_version),
        candidate,
        f"{following} of {len(slot.replicas)}",
        state,
    )
