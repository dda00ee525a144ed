"""``vouch rollout``: a version into serving by steps, and back."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Group
from rich.text import Text

from vouch.cli import render
from vouch.cli.session import Session, command
from vouch.errors import NotFound

if TYPE_CHECKING:
    from vouch.client import Client
    from vouch.types.rollout import Rollout

app = typer.Typer(help="Move a version into serving by steps, and back.", no_args_is_help=True)

RolloutArgument = Annotated[
    str | None, typer.Argument(help="Id of the rollout. Default: the active one, or else the latest.")
]
PercentOption = Annotated[int | None, typer.Option(help="Share of new requests in percent, 1 to 100.")]
ReasonOption = Annotated[str, typer.Option(help="Why; kept with the rollout.")]
WaitOption = Annotated[bool, typer.Option("--wait", help="Wait until every replica follows.")]
_COLOURS = {"ACTIVE": "yellow", "COMPLETED": "green", "ROLLED_BACK": "red"}


@command(
    app,
    "start",
    """
    vouch rollout start generator-2
    vouch rollout start generator-2 --percent 100 --wait --reason "better by the judge"
    """,
)
def start(
    session: Session,
    version: Annotated[str, typer.Argument(help="Name or digest of a generator or reward model.")],
    percent: PercentOption = None,
    reason: ReasonOption = "",
    wait: WaitOption = False,
) -> None:
    """Verify a version and give it its first share of new requests, 5 % by default."""
    with session.connect() as client:
        rollout = client.start_rollout(version, percent=percent, reason=reason)
        _emit(session, _converged(client, rollout) if wait else rollout)


@command(
    app,
    "promote",
    """
    vouch rollout promote
    vouch rollout promote rollout-3 --percent 50 --wait
    """,
)
def promote(
    session: Session,
    rollout: RolloutArgument = None,
    percent: PercentOption = None,
    reason: ReasonOption = "",
    wait: WaitOption = False,
) -> None:
    """Give the candidate its next share: 5, 25, then 100 percent, which makes it the champion."""
    with session.connect() as client:
        moved = client.promote_rollout(rollout or _current(client), percent=percent, reason=reason)
        _emit(session, _converged(client, moved) if wait else moved)


@command(
    app,
    "rollback",
    """
    vouch rollout rollback --reason "odd granules"
    vouch rollout rollback rollout-3 --wait
    """,
)
def rollback(
    session: Session, rollout: RolloutArgument = None, reason: ReasonOption = "", wait: WaitOption = False
) -> None:
    """Take the candidate out, or bring the previous champion back after a completed rollout."""
    with session.connect() as client:
        back = client.roll_back_rollout(rollout or _current(client), reason=reason)
        _emit(session, _converged(client, back) if wait else back)


@command(
    app,
    "status",
    """
    vouch rollout status
    vouch rollout status rollout-3 --json
    """,
)
def status(
    session: Session,
    rollout: Annotated[str | None, typer.Argument(help="Id of the rollout. Default: list them.")] = None,
    limit: Annotated[int, typer.Option(min=1, help="At most this many.")] = 20,
) -> None:
    """List rollouts, newest first, or show one with everything that happened to it."""
    with session.connect() as client:
        if rollout is not None:
            _emit(session, client.get_rollout(rollout))
            return
        found = list(client.list_rollouts(limit=limit))
    columns = ("rollout", "slot", "version", "instead of", "share", "state", "replicas", "changed")
    session.emit(
        {"rollouts": found}, lambda: render.table(columns, map(_row, found), empty="No rollout yet.")
    )


@command(app, "watch", "vouch rollout watch rollout-3")
def watch(session: Session, rollout: RolloutArgument = None) -> None:
    """Show every change until the rollout is over and every replica follows. With --json one line per change."""
    with session.connect() as client:
        for change in client.watch_rollout(rollout or _current(client)):
            if session.as_json:
                render.print_json(change)
            else:
                render.stdout().print(_line(change))


def _current(client: Client) -> str:
    active = list(client.list_rollouts(state="ACTIVE", limit=2))
    latest = active or list(client.list_rollouts(limit=1))
    if len(active) > 1:
        raise NotFound(f"Two rollouts are active: {', '.join(one.rollout_id for one in active)}. Name one.")
    if not latest:
        raise NotFound("There is no rollout. Start one with `vouch rollout start VERSION`.")
    return latest[0].rollout_id


def _converged(client: Client, rollout: Rollout) -> Rollout:
    for change in client.watch_rollout(rollout.rollout_id):
        rollout = change
        if 0 < change.replicas_total == change.replicas_converged:
            break
    return rollout


def _emit(session: Session, rollout: Rollout) -> None:
    session.emit(rollout, lambda: _view(rollout))


def _row(rollout: Rollout) -> tuple[str | Text, ...]:
    return (
        rollout.rollout_id,
        rollout.slot,
        rollout.version_name,
        rollout.previous_name,
        f"{rollout.percent} %",
        Text(rollout.state, style=_COLOURS.get(rollout.state, "")),
        f"{rollout.replicas_converged} of {rollout.replicas_total}",
        render.ago(rollout.updated_at),
    )


def _line(rollout: Rollout) -> Text:
    return Text.assemble(
        f"{rollout.rollout_id}  {rollout.version_name}  {rollout.percent} %  ",
        (rollout.state, _COLOURS.get(rollout.state, "")),
        f"  {rollout.replicas_converged} of {rollout.replicas_total} replicas follow",
        (f"  {rollout.reason}" if rollout.reason else "", "dim"),
    )


def _view(rollout: Rollout) -> Any:
    events = [
        (f"{e.at:%Y-%m-%d %H:%M:%S}" if e.at else "", e.action, f"{e.percent} %", e.actor, e.reason)
        for e in rollout.events
    ]
    return Group(_line(rollout), render.table(("when", "what", "#share", "by", "why"), events))
