"""Rollouts: every step is an event, and changes the desired state of serving in the same transaction."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from datetime import datetime
from typing import Any

import sqlalchemy as sa

from vouch.errors import AlreadyExists, FailedPrecondition, InvalidInput, NotFound
from vouch.storage.catalog import pages, rollout_plans, tables
from vouch.storage.catalog.audit import append_entry
from vouch.storage.catalog.controllers import check_fence
from vouch.storage.catalog.database import Database, insert_once
from vouch.storage.catalog.serving import read_slot, under_way, write_slot
from vouch.types.clock import now
from vouch.types.json_values import json_ready
from vouch.types.page import Page
from vouch.types.rollout import Rollout, RolloutAction, RolloutEvent, RolloutState
from vouch.types.rollout_plan import RolloutPlan
from vouch.types.serving import Serving

CONTROLLER = "rollout"
"""The name under which controllers of rollouts take over from one another."""


@dataclass(frozen=True)
class _Ask:
    """One request to begin or move a rollout."""

    action: RolloutAction
    percent: int | None
    actor: str
    reason: str
    request_id: str
    fence: int | None = None
    """Of the controller that decided by itself; None for an operator's word."""
    revision: int | None = None
    """Of the slot that the decision was made from; None for an operator's word."""

    @property
    def automatic(self) -> bool:
        """Whether a controller decided it from what it saw, and no operator asked for it."""
        return self.revision is not None


class Rollouts:
    """At most one rollout is active in a slot. Requests are idempotent by `actor` and `request_id`."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def start(
        self,
        slot: str,
        candidate: str,
        *,
        percent: int,
        actor: str,
        request_id: str,
        reason: str = "",
        plan: RolloutPlan | None = None,
        champion: str = "",
        fence: int | None = None,
    ) -> Rollout:
        """Give `percent` (1..100) of a slot's new requests to `candidate` (a digest); 100 completes at once.

        With a plan the controller moves it on by itself; with a plan for a shadow it begins at 0 %. champion: the one
        that the candidate was compared with; "" where any will do. fence: number of the controller that decided it.

        Raises:
            NotFound: no such slot.
            FailedPrecondition: a rollout is under way, the candidate is champion already, another version has become
                champion since (CHANGED_SINCE), or another controller has taken over (FENCED).
            AlreadyExists: the request_id was used for something else.
        """
        percent = 0 if plan is not None and plan.shadow else _percent(percent)
        ask = _Ask("start", percent, actor, reason, request_id, fence)
        with self._database.write() as connection:
            if fence is not None:
                check_fence(connection, CONTROLLER, fence)
            serving = read_slot(connection, slot, lock=True)
            done = _replayed(connection, ask)
            if done is not None:
                if (done.slot, done.version) != (slot, candidate):
                    raise _reused(request_id)
                return done
            _check_start(serving, candidate, champion)
            seq = _insert(connection, slot, candidate, serving.champion)
            if plan is not None:
                rollout_plans.insert(connection, seq, plan)
            return _move(connection, _get(connection, seq), ask, percent)

    def promote(
        self,
        rollout_id: str,
        *,
        percent: int,
        actor: str,
        request_id: str,
        reason: str = "",
        fence: int | None = None,
        revision: int | None = None,
    ) -> Rollout:
        """Raise the candidate's share to `percent`; 100 makes it champion and completes the rollout.

        fence: number of the controller that decides by itself. revision: of the slot as it was when that was decided.

        Raises:
            NotFound: no such rollout.
            FailedPrecondition: it has ended, its share is not below `percent`, another controller has taken over
                (FENCED), the slot has changed since (CHANGED_SINCE), or it was paused since (PAUSED).
            AlreadyExists: the request_id was used for something else.
        """
        ask = _Ask("promote", _percent(percent), actor, reason, request_id, fence, revision)
        with self._database.write() as connection:
            rollout, done = _locked(connection, rollout_id, ask)
            if done:
                return rollout
            if rollout.state != "ACTIVE":
                raise FailedPrecondition(
                    f"{rollout.rollout_id} has ended ({rollout.state}): start another.", "ROLLOUT_ENDED"
                )
            if percent <= rollout.percent:
                raise FailedPrecondition(
                    f"{rollout.rollout_id} is at {rollout.percent} % already; promotion only goes up."
                )
            if ask.automatic and rollout.plan is not None and rollout.plan.paused:
                raise FailedPrecondition(
                    f"{rollout.rollout_id} is paused: resume it, or promote it by hand.", "PAUSED"
                )
            return _move(connection, rollout, ask, percent)

    def roll_back(
        self,
        rollout_id: str,
        *,
        actor: str,
        request_id: str,
        reason: str = "",
        fence: int | None = None,
        revision: int | None = None,
    ) -> Rollout:
        """Take the candidate out; of a completed rollout, bring the champion before it back.

        Raises:
            NotFound: no such rollout.
            FailedPrecondition: rolled back already, something else has been champion since, another controller has
                taken over (FENCED), or the slot has changed since (CHANGED_SINCE).
            AlreadyExists: the request_id was used for something else.
        """
        ask = _Ask("roll_back", None, actor, reason, request_id, fence, revision)
        with self._database.write() as connection:
            rollout, done = _locked(connection, rollout_id, ask)
            if done:
                return rollout
            if rollout.state == "ROLLED_BACK":
                raise FailedPrecondition(f"{rollout.rollout_id} is rolled back already.", "ROLLOUT_ENDED")
            return _move(connection, rollout, ask, 0)

    def pause(self, rollout_id: str, *, actor: str, request_id: str, reason: str = "") -> Rollout:
        """Keep the share as it is, whatever is proven for it. Guards still roll it back.

        Raises as `resume` does.
        """
        return self._set_paused(rollout_id, _Ask("pause", None, actor, reason, request_id))

    def resume(self, rollout_id: str, *, actor: str, request_id: str, reason: str = "") -> Rollout:
        """Let it move on by itself again.

        Raises:
            NotFound: no such rollout.
            FailedPrecondition: it has ended, or it has no plan to pause.
            AlreadyExists: the request_id was used for something else.
        """
        return self._set_paused(rollout_id, _Ask("resume", None, actor, reason, request_id))

    def _set_paused(self, rollout_id: str, ask: _Ask) -> Rollout:
        with self._database.write() as connection:
            rollout, done = _locked(connection, rollout_id, ask)
            if done:
                return rollout
            if rollout.state != "ACTIVE":
                raise FailedPrecondition(
                    f"{rollout.rollout_id} has ended ({rollout.state}).", "ROLLOUT_ENDED"
                )
            if rollout.plan is None:
                raise FailedPrecondition(
                    f"{rollout.rollout_id} began before plans were kept, so there is nothing to pause or resume.",
                    "NO_PLAN",
                )
            rollout_plans.set_paused(connection, _seq(rollout.rollout_id), ask.action == "pause")
            return _record(connection, rollout, ask, rollout.state, rollout.percent)

    def progress(
        self,
        rollout_id: str,
        *,
        fence: int,
        held_percent: int,
        held_s: float,
        evidence: Mapping[str, Any],
    ) -> None:
        """Keep what the controller has seen so far, so that its successor goes on from there.

        Raises FailedPrecondition (FENCED) when another controller has taken over.
        """
        with self._database.write() as connection:
            check_fence(connection, CONTROLLER, fence)
            rollout_plans.set_progress(
                connection, _seq(rollout_id), held_percent, held_s, json_ready(evidence)
            )

    def served_at(self, slot: str, moment: datetime) -> tuple[Serving, Rollout | None]:
        """What the slot was to serve at that moment, and the rollout whose event had made it so.

        The rollout is None before the first one. Raises NotFound for a slot that was never set, and for a moment before
        its first champion was there.
        """
        events, rollouts = tables.rollout_events, tables.rollouts
        query = (
            sa.select(events.c.rollout, events.c.action, events.c.percent, events.c.at)
            .join(rollouts, rollouts.c.seq == events.c.rollout)
            .where(rollouts.c.slot == slot)
            .order_by(events.c.seq)
        )
        with self._database.read() as connection:
            rows = connection.execute(query).all()
            known = {seq: _get(connection, seq) for seq in {row.rollout for row in rows}}
            before = read_slot(connection, slot)
            if rows:
                before = Serving(slot=slot, champion=known[rows[0].rollout].previous_version, revision=1)
            began = _published_at(connection, before.champion) if rows else before.updated_at
        if began is not None and moment < began:
            raise NotFound(f"Nothing was served in slot {slot} before {began.isoformat()}.", "SLOT_NOT_FOUND")
        last = None
        for row in rows:
            if row.at > moment:
                break
            last = known[row.rollout]
            before = _after(before, row, last)
        return before, last

    def automatic(self, slot: str) -> int:
        """How many rollouts of the slot have begun that move by themselves: as many were tested for promotion."""
        plans, rollouts = tables.rollout_plans, tables.rollouts
        query = (
            sa.select(sa.func.count())
            .select_from(plans.join(rollouts, rollouts.c.seq == plans.c.rollout))
            .where(plans.c.automatic, rollouts.c.slot == slot)
        )
        with self._database.read() as connection:
            return int(connection.execute(query).scalar_one())

    def get(self, rollout_id: str) -> Rollout:
        """Raises NotFound."""
        with self._database.read() as connection:
            return _get(connection, _seq(rollout_id))

    def active(self, slot: str) -> Rollout | None:
        """The rollout that is under way in this slot."""
        table = tables.rollouts
        query = sa.select(table).where(table.c.slot == slot, table.c.state == "ACTIVE")
        with self._database.read() as connection:
            row = connection.execute(query).first()
            return None if row is None else _rollout(connection, row)

    def list(
        self,
        slot: str | None = None,
        *,
        state: RolloutState | None = None,
        page_size: int = pages.DEFAULT_PAGE_SIZE,
        page_token: str = "",
    ) -> Page[Rollout]:
        """Newest first."""
        with self._database.read() as connection:
            return pages.read_page(
                connection,
                tables.rollouts,
                {"slot": slot, "state": state},
                lambda row: _rollout(connection, row),
                page_size=page_size,
                page_token=page_token,
            )


def _percent(percent: int) -> int:
    if not 1 <= percent <= 100:
        raise InvalidInput(f"percent must be 1 to 100, not {percent}.")
    return percent


def _seq(rollout_id: str) -> int:
    head, _, number = rollout_id.rpartition("-")
    if head != "rollout" or not (number.isascii() and number.isdigit()) or len(number) > 18:
        raise NotFound(f"There is no rollout {rollout_id!r}.", "ROLLOUT_NOT_FOUND")
    return int(number)


def _check_start(serving: Serving, candidate: str, champion: str) -> None:
    """Raises FailedPrecondition where no rollout of `candidate` against `champion` ("": any) can begin."""
    if serving.candidate:
        raise under_way(serving.slot)
    if serving.champion == candidate:
        raise FailedPrecondition("The candidate is already the champion.", "ALREADY_CHAMPION")
    if champion not in ("", serving.champion):
        raise FailedPrecondition(
            f"Another version has become champion of slot {serving.slot} since: compare the candidate with it.",
            "CHANGED_SINCE",
        )


def _insert(connection: sa.Connection, slot: str, candidate: str, champion: str) -> int:
    moment = now()
    values = {"slot": slot, "candidate": candidate, "champion": champion, "state": "ACTIVE", "percent": 0}
    result = connection.execute(
        sa.insert(tables.rollouts).values(**values, created_at=moment, updated_at=moment)
    )
    key = result.inserted_primary_key
    assert key is not None
    return int(key[0])


def _locked(connection: sa.Connection, rollout_id: str, ask: _Ask) -> tuple[Rollout, bool]:
    """The rollout with its slot locked, and whether this very request has been carried out before."""
    rollout = _get(connection, _seq(rollout_id))
    if ask.fence is not None:
        check_fence(connection, CONTROLLER, ask.fence)
    serving = read_slot(connection, rollout.slot, lock=True)
    done = _replayed(connection, ask)
    if done is not None and done.rollout_id != rollout_id:
        raise _reused(ask.request_id)
    if done is None and ask.revision not in (None, serving.revision):
        raise FailedPrecondition(
            f"Slot {rollout.slot} has changed since (revision {serving.revision}, not {ask.revision}).",
            "CHANGED_SINCE",
        )
    return done or _get(connection, _seq(rollout_id)), done is not None


def _replayed(connection: sa.Connection, ask: _Ask) -> Rollout | None:
    if not ask.request_id:
        raise InvalidInput("request_id is empty: it is needed, so that a repeated request acts once.")
    table = tables.rollout_events
    same = sa.and_(table.c.actor == ask.actor, table.c.request_id == ask.request_id)
    row = connection.execute(sa.select(table).where(same)).first()
    if row is None:
        return None
    if (row.action, row.asked_percent) != (ask.action, ask.percent):
        raise _reused(ask.request_id)
    return _get(connection, row.rollout)


def _move(connection: sa.Connection, rollout: Rollout, ask: _Ask, percent: int) -> Rollout:
    """Carry a request out: serving, rollout and event together."""
    state = _apply_to_serving(connection, rollout, ask.action, percent)
    return _record(connection, rollout, ask, state, percent)


def _record(
    connection: sa.Connection, rollout: Rollout, ask: _Ask, state: RolloutState, percent: int
) -> Rollout:
    """The rollout, its event and its entry in the audit log."""
    seq, moment = _seq(rollout.rollout_id), now()
    table = tables.rollouts
    connection.execute(
        sa.update(table).where(table.c.seq == seq).values(state=state, percent=percent, updated_at=moment)
    )
    event = {
        "rollout": seq,
        "action": ask.action,
        "percent": percent,
        "asked_percent": ask.percent,
        "actor": ask.actor,
        "reason": ask.reason,
        "request_id": ask.request_id,
        "at": moment,
    }
    if not insert_once(connection, tables.rollout_events, event):
        raise _reused(ask.request_id)  # by a request in another slot, at this very moment
    details = {"slot": rollout.slot, "version": rollout.version, "percent": percent, "reason": ask.reason}
    forced = {"forced": rollout.plan.forced} if rollout.plan and rollout.plan.forced else {}
    append_entry(connection, ask.actor, f"rollout {ask.action}", rollout.rollout_id, {**details, **forced})
    return _get(connection, seq)


def _apply_to_serving(
    connection: sa.Connection, rollout: Rollout, action: RolloutAction, percent: int
) -> RolloutState:
    serving = read_slot(connection, rollout.slot, lock=True)
    if action == "roll_back":
        if rollout.state == "COMPLETED" and serving.champion != rollout.version:
            raise FailedPrecondition("Another version has become champion since.", "NOT_CHAMPION")
        if rollout.state == "COMPLETED" and serving.candidate:
            raise under_way(rollout.slot)
        previous = rollout.version if rollout.state == "COMPLETED" else serving.previous
        write_slot(connection, serving, champion=rollout.previous_version, previous=previous)
        return "ROLLED_BACK"
    if percent == 100:
        write_slot(connection, serving, champion=rollout.version, previous=rollout.previous_version)
        return "COMPLETED"
    write_slot(
        connection,
        serving,
        champion=serving.champion,
        candidate=rollout.version,
        percent=percent,
        previous=serving.previous,
        sticky=rollout.plan is not None and rollout.plan.sticky,
    )
    return "ACTIVE"


def _published_at(connection: sa.Connection, version: str) -> datetime | None:
    """When the version came to be, before which nothing can have served it; None where it is gone."""
    table = tables.versions
    moment: datetime | None = connection.scalar(
        sa.select(table.c.created_at).where(table.c.digest == version)
    )
    return moment


def _after(before: Serving, event: Any, rollout: Rollout) -> Serving:
    """The desired state that follows `before` by this event of `rollout`."""
    common: dict[str, Any] = {"slot": before.slot, "revision": before.revision + 1, "updated_at": event.at}
    if event.action in ("pause", "resume"):
        return before
    if event.action == "roll_back":
        return Serving(champion=rollout.previous_version, previous=before.champion, **common)
    if event.percent == 100:
        return Serving(champion=rollout.version, previous=rollout.previous_version, **common)
    return Serving(
        champion=rollout.previous_version, candidate=rollout.version, percent=event.percent, **common
    )


def _get(connection: sa.Connection, seq: int) -> Rollout:
    row = connection.execute(sa.select(tables.rollouts).where(tables.rollouts.c.seq == seq)).first()
    if row is None:
        raise NotFound(f"There is no rollout 'rollout-{seq}'.", "ROLLOUT_NOT_FOUND")
    return _rollout(connection, row)


def _rollout(connection: sa.Connection, row: Any) -> Rollout:
    table = tables.rollout_events
    query = sa.select(table).where(table.c.rollout == row.seq).order_by(table.c.seq)
    names = [one.name for one in fields(RolloutEvent)]
    return Rollout(
        rollout_id=f"rollout-{row.seq}",
        slot=row.slot,
        version=row.candidate,
        previous_version=row.champion,
        state=row.state,
        percent=row.percent,
        events=tuple(
            RolloutEvent(**{name: event[name] for name in names})
            for event in connection.execute(query).mappings()
        ),
        created_at=row.created_at,
        updated_at=row.updated_at,
        plan=rollout_plans.find(connection, row.seq),
    )


def _reused(request_id: str) -> AlreadyExists:
    return AlreadyExists(
        f"request_id {request_id!r} was already used for another request. Use a fresh one.",
        "REQUEST_ID_REUSED",
    )
