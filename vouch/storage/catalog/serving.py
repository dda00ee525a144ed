"""The desired state of serving: one row per slot, on which every replica converges."""

from __future__ import annotations

from typing import Any

import sqlalchemy as sa

from vouch.errors import FailedPrecondition, NotFound
from vouch.storage.catalog import tables
from vouch.storage.catalog.database import Database, insert_once
from vouch.types.clock import now
from vouch.types.serving import Serving


class ServingSlots:
    """What each slot ("generator", "reward") shall serve."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def get(self, slot: str) -> Serving:
        """Raises NotFound for a slot that was never set."""
        with self._database.read() as connection:
            return read_slot(connection, slot)

    def list(self) -> tuple[Serving, ...]:
        query = sa.select(tables.serving).order_by(tables.serving.c.slot)
        with self._database.read() as connection:
            return tuple(_serving(row) for row in connection.execute(query))

    def ensure(self, slot: str, champion: str) -> Serving:
        """Set the champion (a digest) of a slot that has none; leave one that has."""
        with self._database.write() as connection:
            insert_once(connection, tables.serving, _row(Serving(slot=slot, champion=champion)))
            return read_slot(connection, slot)


def read_slot(connection: sa.Connection, slot: str, *, lock: bool = False) -> Serving:
    query = sa.select(tables.serving).where(tables.serving.c.slot == slot)
    row = connection.execute(query.with_for_update() if lock else query).first()
    if row is None:
        raise NotFound(f"There is no slot {slot!r}: nothing was ever served there.", "SLOT_NOT_FOUND")
    return _serving(row)


def write_slot(
    connection: sa.Connection,
    current: Serving,
    *,
    champion: str,
    candidate: str = "",
    percent: int = 0,
    previous: str = "",
    sticky: bool = False,
) -> Serving:
    """The next revision of a slot that `read_slot(lock=True)` has read."""
    after = Serving(
        slot=current.slot,
        champion=champion,
        candidate=candidate,
        percent=percent,
        previous=previous,
        sticky=sticky,
        revision=current.revision + 1,
        updated_at=now(),
    )
    connection.execute(
        sa.update(tables.serving).where(tables.serving.c.slot == current.slot).values(**_row(after))
    )
    return after


def under_way(slot: str) -> FailedPrecondition:
    return FailedPrecondition(
        f"A rollout is under way in slot {slot}: complete it or roll it back first.", "ROLLOUT_UNDER_WAY"
    )


def _row(serving: Serving) -> dict[str, Any]:
    return {column.name: getattr(serving, column.name) for column in tables.serving.columns}


def _serving(row: Any) -> Serving:
    return Serving(**row._mapping)
