"""Who may move things by itself: one controller of each name, told from its predecessors by a fencing number."""

from __future__ import annotations

import sqlalchemy as sa

from vouch.errors import FailedPrecondition
from vouch.storage.catalog import tables
from vouch.storage.catalog.database import Database, insert_once
from vouch.types.clock import now


class Controllers:
    """Hands out fencing numbers. No clock decides: the last to take over is the master until the next one does."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def take_over(self, name: str) -> int:
        """Become the controller of this name. The number that every write has to bring from now on, 1 or more."""
        table = tables.controllers
        with self._database.write() as connection:
            insert_once(connection, table, {"name": name, "fence": 0, "taken_at": now()})
            mine = table.c.name == name
            fence = connection.execute(sa.select(table.c.fence).where(mine).with_for_update()).scalar_one()
            connection.execute(sa.update(table).where(mine).values(fence=fence + 1, taken_at=now()))
        return int(fence) + 1

    def fence(self, name: str) -> int:
        """The number of the present controller; 0 before the first."""
        table = tables.controllers
        with self._database.read() as connection:
            return int(connection.execute(sa.select(table.c.fence).where(table.c.name == name)).scalar() or 0)


def check_fence(connection: sa.Connection, name: str, fence: int) -> None:
    """Inside a write: holds the row until it commits, so that nobody takes over in between.

    Raises FailedPrecondition (FENCED) for a controller whose place another has taken.
    """
    table = tables.controllers
    query = sa.select(table.c.fence).where(table.c.name == name).with_for_update()
    present = connection.execute(query).scalar() or 0
    if present != fence:
        raise FailedPrecondition(
            f"Another {name} controller has taken over (number {present}, not {fence}): this one writes nothing more.",
            "FENCED",
        )
