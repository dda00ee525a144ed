"""What replicas say of themselves: which revision they serve, or why they refused one."""

from __future__ import annotations

from datetime import datetime
from typing import Any

import sqlalchemy as sa

from vouch.storage.catalog import tables
from vouch.storage.catalog.database import Database, insert_once
from vouch.types.serving import ReplicaReport

COLUMNS = {
    "slot": "slot",
    "replica": "replica_id",
    "revision": "revision",
    "ok": "ok",
    "reason": "reason",
    "champion": "champion_version",
    "candidate": "candidate_version",
    "updated_at": "reported_at",
}
"""The columns of the table, and what the report calls each."""


class Reports:
    """The newest report of each replica."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def put(self, report: ReplicaReport) -> None:
        """Keep this report in place of the replica's former one."""
        table = tables.replica_reports
        row = {column: getattr(report, name) for column, name in COLUMNS.items()}
        row["reason"] = report.reason.replace("\x00", "")
        with self._database.write() as connection:
            if not insert_once(connection, table, row):
                mine = (table.c.slot == report.slot) & (table.c.replica == report.replica_id)
                connection.execute(sa.update(table).where(mine).values(**row))

    def list(
        self, slot: str | None = None, *, newer_than: datetime | None = None
    ) -> tuple[ReplicaReport, ...]:
        table = tables.replica_reports
        query = sa.select(table).order_by(table.c.slot, table.c.replica)
        if slot is not None:
            query = query.where(table.c.slot == slot)
        if newer_than is not None:
            query = query.where(table.c.updated_at > newer_than)
        with self._database.read() as connection:
            return tuple(_report(row) for row in connection.execute(query))

    def forget(self, *, older_than: datetime) -> int:
        """Drop reports of replicas that have been silent; answers how many."""
        table = tables.replica_reports
        with self._database.write() as connection:
            return int(connection.execute(sa.delete(table).where(table.c.updated_at < older_than)).rowcount)


def _report(row: Any) -> ReplicaReport:
    return ReplicaReport(**{name: row._mapping[column] for column, name in COLUMNS.items()})
