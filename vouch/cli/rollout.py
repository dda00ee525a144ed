"""``vouch rollout``: staged rollout of a version, and rollback."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Group
from rich.text import Text

from vouch.cli import render
from vouch.cli.durations import seconds
from vouch.cli.session import Session, command
from vouch.errors import InvalidInput, NotFound

if TYPE_CHECKING:
    from vouch.client import Client
    from vouch.types.account import ServedSlot
    from vouch.types.rollout import Rollout

app = typer.Typer(help="Roll a version out in steps, or back.", no_args_is_help=True)

RolloutArgument = Annotated[
    str | None, typer.Argument(help="Id of the rollout. Default: the active one, otherwise the latest.")
]
PercentOption = Annotated[int | None, typer.Option(help="Share of new requests in percent, 1 to 100.")]
ReasonOption = Annotated[str, typer.Option(help="Reason; stored with the rollout.")]
WaitOption = Annotated[bool, typer.Option("--wait", help="Wait until every replica has converged.")]
_COLOURS = {"ACTIVE": "yellow", "COMPLETED": "green", "ROLLED_BACK": "red"}


@command(
    app,
    "start",
    """
    vouch rollout start generator@2 --steps 5,25,100 --hold 10m
    vouch rollout start generator-2 --shadow --hold 1h --dry-run
    vouch rollout start generator-2 --percent 100 --wait --force --reason "the judge does not know this stain"
    """,
)
def start(
    session: Session,
    version: Annotated[str, typer.Argument(help="Name or digest of a generator or reward model.")],
    percent: PercentOption = None,
    steps: Annotated[
        str, typer.Option(help="Shares in percent for automatic promotion, such as 5,25,100.")
    ] = "",
    hold: Annotated[
        str, typer.Option(help="Minimum time at each share, such as 30s, 10m or 2h. Default: 10m.")
    ] = "",
    shadow: Annotated[
        bool,
        typer.Option(
            "--shadow", help="Start at 0 %: generate the champion's images too, without returning them."
        ),
    ] = False,
    sticky: Annotated[
        bool, typer.Option("--sticky", help="Assign each client permanently to champion or candidate.")
    ] = False,
    force: Annotated[
        bool,
        typer.Option(
            "--force", help="Start against the evidence; needs --reason, which the audit log records."
        ),
    ] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Check everything and change nothing.")] = False,
    reason: ReasonOption = "",
    wait: WaitOption = False,
) -> None:
    """Verify a version and its evidence, and give it its first share of new requests, 5 % by default.

    With --steps, --hold or --shadow the rollout is automatic: the version is promoted when it is proven not worse,
    rolled back when it is proven worse, and held until then.
    """
    with session.connect() as client:
        rollout = client.start_rollout(
            version,
            percent=percent,
            steps=_steps(steps),
            hold_s=seconds("--hold", hold) if hold else None,
            shadow=shadow,
            sticky=sticky,
            force=force,
            dry_run=dry_run,
            reason=reason,
        )
        _emit(session, _converged(client, rollout) if wait and not dry_run else rollout)


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
    """Remove the candidate, or restore the previous champion after a completed rollout."""
    with session.connect() as client:
        back = client.roll_back_rollout(rollout or _current(client), reason=reason)
        _emit(session, _converged(client, back) if wait else back)


@command(app, "pause", 'vouch rollout pause --reason "waiting for experts"')
def pause(session: Session, rollout: RolloutArgument = None, reason: ReasonOption = "") -> None:
    """Pause automatic promotion; automatic rollback stays on."""
    with session.connect() as client:
        _emit(session, client.pause_rollout(rollout or _current(client), reason=reason))


@command(app, "resume", "vouch rollout resume")
def resume(session: Session, rollout: RolloutArgument = None, reason: ReasonOption = "") -> None:
    """Resume automatic promotion."""
    with session.connect() as client:
        _emit(session, client.resume_rollout(rollout or _current(client), reason=reason))


@command(
    app,
    "history",
    """
    vouch rollout history
    vouch rollout history --at "2026-11-24 14:03"
    """,
)
def history(
    session: Session,
    at: Annotated[
        datetime | None,
        typer.Option(
            formats=["%Y-%m-%d", "%Y-%m-%d %H:%M", "%Y-%m-%d %H:%M:%S", "%Y-%m-%dT%H:%M:%S"],
            help="Time to look at, in this machine's time zone. Default: now.",
        ),
    ] = None,
) -> None:
    """Show what served at a time, who decided it, on which evidence, and whose ratings it was trained on."""
    moment = at.astimezone() if at else None
    with session.connect() as client:
        slots = client.get_serving_history(at=moment).slots
    session.emit({"slots": slots}, lambda: Group(*map(_served, slots)))


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
    rollout: Annotated[
        str | None, typer.Argument(help="Id of the rollout. Default: list all rollouts.")
    ] = None,
    limit: Annotated[int, typer.Option(min=1, help="Maximum number of rollouts.")] = 20,
) -> None:
    """List rollouts, newest first, or show one with its events."""
    with session.connect() as client:
        if rollout is not None:
            _emit(session, client.get_rollout(rollout))
            return
        rollouts = list(client.list_rollouts(limit=limit))
    columns = ("rollout", "slot", "version", "previous", "share", "state", "replicas", "changed")
    session.emit(
        {"rollouts": rollouts}, lambda: render.table(columns, map(_row, rollouts), empty="No rollout yet.")
    )


@command(app, "watch", "vouch rollout watch rollout-3")
def watch(session: Session, rollout: RolloutArgument = None) -> None:
    """Show every change until the rollout ends and every replica has converged. With --json one line per change."""
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
        f"  {rollout.replicas_converged} of {rollout.replicas_total} replicas converged",
        (f"  {rollout.reason}" if rollout.reason else "", "dim"),
    )


def _steps(text: str) -> list[int]:
    """ "5,25,100" as numbers. Raises InvalidInput."""
    try:
        return [int(part) for part in text.split(",")] if text else []
    except ValueError as error:
        raise InvalidInput(f"--steps {text!r} is not a list of percents such as 5,25,100.") from error


def _served(slot: ServedSlot) -> Text:
    """What one slot served, in sentences."""
    lines = [(f"{slot.slot}: {slot.champion_name or slot.champion_version[:12]} served", "bold")]
    if slot.candidate_version:
        lines.append((f", and {slot.candidate_name} took {slot.candidate_percent} % of new requests", "bold"))
    lines.append((".\n", ""))
    if slot.rollout_id:
        when = f"{slot.decided_at.astimezone():%Y-%m-%d %H:%M:%S}" if slot.decided_at else ""
        why = f": {slot.reason}" if slot.reason else ""
        lines.append((f"  decided by {slot.decided_by} in {slot.rollout_id} at {when}{why}\n", ""))
        lines.append((f"  evidence: {_gate(slot.gate)}\n", ""))
    else:
        lines.append(("  no rollout before\n", ""))
    raters = ", ".join(f"{name} {count}" for name, count in slot.raters.items()) or "none"
    lines.append((f"  trained on ratings of: {raters}\n", "dim"))
    return Text.assemble(*lines)


def _gate(gate: Mapping[str, Any]) -> str:
    verdict = gate.get("verdict", "")
    if verdict == "pass":
        return f"passed, measured {gate.get('measured_at') or 'with the version'}"
    return f"overruled: {gate.get('refusal', '')}" if verdict == "forced" else "none"


def _proof(rollout: Rollout) -> list[Text]:
    """The plan and the evidence so far."""
    plan = rollout.progress
    if plan is None:
        return []
    mode = (
        "manually" if plan.paused or not plan.automatic else f"after {plan.held_s:.0f} of {plan.hold_s:.0f} s"
    )
    steps = ", ".join(f"{step} %" for step in plan.steps)
    text = f"steps {steps}; promoted {mode}"
    proof = (
        f"e-values: worse 10^{plan.log10_e_worse:.2f}, not worse by 2 points 10^{plan.log10_e_not_worse:.2f}"
    )
    lines = [f"{text}{'; ' + plan.decision if plan.decision else ''}", f"{proof}; 10^1.30 decides"]
    lines.append(f"gate: {_gate(plan.gate)}{'; forced: ' + plan.forced if plan.forced else ''}")
    return [Text(line, style="dim") for line in lines]


def _view(rollout: Rollout) -> Any:
    events = [
        (f"{e.at:%Y-%m-%d %H:%M:%S}" if e.at else "", e.action, f"{e.percent} %", e.actor, e.reason)
        for e in rollout.events
    ]
    return Group(
        _line(rollout), *_proof(rollout), render.table(("when", "action", "#share", "by", "reason"), events)
    )
