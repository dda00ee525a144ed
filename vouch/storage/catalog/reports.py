"""What replicas say of themselves: which revision they serve, or why they refused one."""

from __future__ import annotations

from dataclasses import asdict
from datetime import datetime

import sqlalchemy as sa

from vouch.storage.catalog import tables
from vouch.storage.catalog.database import Database, insert_once
from vouch.types.records import ReplicaReport


class Reports:
    """The newest report of each replica."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def put(self, report: ReplicaReport) -> None:
        """Keep this report in place of the replica's former one."""
        table, row = tables.replica_reports, asdict(report)
        row["reason"] = row["reason"].replace("\x00", "")
        with self._database.write() as connection:
            if not insert_once(connection, table, row):
                mine = (table.c.slot == report.slot) & (table.c.replica == report.replica)
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
            return tuple(ReplicaReport(**row._mapping) for row in connection.execute(query))

    def forget(self, *, older_than: datetime) -> int:
        """Drop reports of replicas that have been silent; answers how many."""
        table = tables.replica_reports
        with self._database.write() as connection:
            return int(connection.execute(sa.delete(table).where(table.c.updated_at < older_than)).rowcount)
