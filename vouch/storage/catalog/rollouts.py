"""Rollouts: every step is an event, and changes the desired state of serving in the same transaction."""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Any

import sqlalchemy as sa

from vouch.errors import AlreadyExists, FailedPrecondition, InvalidInput, NotFound
from vouch.storage.catalog import pages, tables
from vouch.storage.catalog.database import Database, insert_once
from vouch.storage.catalog.serving import read_slot, under_way, write_slot
from vouch.types.clock import now
from vouch.types.page import Page
from vouch.types.rollout import Rollout, RolloutAction, RolloutEvent, RolloutState


@dataclass(frozen=True)
class _Ask:
    """One request to begin or move a rollout."""

    action: RolloutAction
    percent: int | None
    actor: str
    reason: str
    request_id: str


class Rollouts:
    """At most one rollout is active in a slot. Requests are idempotent by `actor` and `request_id`."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def start(
        self, slot: str, candidate: str, *, percent: int, actor: str, request_id: str, reason: str = ""
    ) -> Rollout:
        """Give `percent` (1..100) of a slot's new requests to `candidate` (a digest); 100 completes at once.

        Raises:
            NotFound: no such slot.
            FailedPrecondition: a rollout is under way, or the candidate is champion already.
            AlreadyExists: the request_id was used for something else.
        """
        ask = _Ask("start", _percent(percent), actor, reason, request_id)
        with self._database.write() as connection:
            serving = read_slot(connection, slot, lock=True)
            done = _replayed(connection, ask)
            if done is not None:
                if (done.slot, done.version) != (slot, candidate):
                    raise _reused(request_id)
                return done
            if serving.candidate:
                raise under_way(slot)
            if serving.champion == candidate:
                raise FailedPrecondition("The candidate is already the champion.", "ALREADY_CHAMPION")
            seq = _insert(connection, slot, candidate, serving.champion)
            return _move(connection, _get(connection, seq), ask, percent)

    def promote(
        self, rollout_id: str, *, percent: int, actor: str, request_id: str, reason: str = ""
    ) -> Rollout:
        """Raise the candidate's share to `percent`; 100 makes it champion and completes the rollout.

        Raises:
            NotFound: no such rollout.
            FailedPrecondition: it has ended, or its share is not below `percent`.
            AlreadyExists: the request_id was used for something else.
        """
        ask = _Ask("promote", _percent(percent), actor, reason, request_id)
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
            return _move(connection, rollout, ask, percent)

    def roll_back(self, rollout_id: str, *, actor: str, request_id: str, reason: str = "") -> Rollout:
        """Take the candidate out; of a completed rollout, bring the champion before it back.

        Raises:
            NotFound: no such rollout.
            FailedPrecondition: rolled back already, or something else has been champion since.
            AlreadyExists: the request_id was used for something else.
        """
        ask = _Ask("roll_back", None, actor, reason, request_id)
        with self._database.write() as connection:
            rollout, done = _locked(connection, rollout_id, ask)
            if done:
                return rollout
            if rollout.state == "ROLLED_BACK":
                raise FailedPrecondition(f"{rollout.rollout_id} is rolled back already.", "ROLLOUT_ENDED")
            return _move(connection, rollout, ask, 0)

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
    read_slot(connection, rollout.slot, lock=True)
    done = _replayed(connection, ask)
    if done is not None and done.rollout_id != rollout_id:
        raise _reused(ask.request_id)
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
    )
    return "ACTIVE"


def _get(connection: sa.Connection, seq: int) -> Rollout:
    row = connection.execute(sa.select(tables.rollouts).where(tables.rollouts.c.seq == seq)).first()
    if row is None:
        raise NotFound(f"There is no rollout 'rollout-{seq}'.", "ROLLOUT_NOT_FOUND")
    return _rollout(connection, row)


def _rollout(connection: sa.Connection, row: Any) -> Rollout:
    table = tables.rollout_events
    query = sa.select(table).where(table.c.rollout == row.seq).order_by(table.c.seq)
    own = [one.name for one in fields(RolloutEvent)]
    events = tuple(
        RolloutEvent(**{name: event[name] for name in own}) for event in connection.execute(query).mappings()
    )
    names = ("slot", "state", "percent", "created_at", "updated_at")
    return Rollout(
        rollout_id=f"rollout-{row.seq}",
        version=row.candidate,
        previous_version=row.champion,
        events=events,
        **{name: row._mapping[name] for name in names},
    )


def _reused(request_id: str) -> AlreadyExists:
    return AlreadyExists(
        f"request_id {request_id!r} was already used for another request. Use a fresh one.",
        "REQUEST_ID_REUSED",
    )
