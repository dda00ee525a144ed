"""A whole catalog as rows, the same on every database: what a backup keeps of it.

Tables and columns are read from the database itself, so that rows of an older form stay what they were; `migrate`
brings them forward after they were loaded.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from itertools import groupby, islice
from typing import Any

import sqlalchemy as sa

from vouch.errors import FailedPrecondition
from vouch.storage.catalog.database import Database
from vouch.storage.catalog.migrate import HEAD, migrate, revision

_REVISION = "alembic_version"
_CHUNK = 500  # rows of one insert


class CatalogRows:
    """Reads and writes every row of the database at `url`.

    Example:
        with rows.snapshot() as lines:                 # one consistent picture
            file.writelines(lines)
        CatalogRows("postgresql://…").load("0005", lines)
    """

    def __init__(self, url: str) -> None:
        self._url = url

    @contextmanager
    def snapshot(self) -> Iterator[Iterator[str]]:
        """A line of JSON for each row, `["table", {"column": value}]`, in an order in which they can be inserted."""
        with _opened(self._url) as database, database.snapshot() as connection:
            yield _lines(connection)

    def count(self) -> int:
        """Rows of all tables; 0 of a database without tables."""
        with _opened(self._url) as database, database.read() as connection:
            return sum(
                int(connection.execute(sa.select(sa.func.count()).select_from(table)).scalar_one())
                for table in _tables(connection)
            )

    def load(self, form: str, lines: Iterable[str]) -> int:
        """Insert rows of the form `form` (a revision), all or none, and migrate them to the newest. How many they were.

        Raises:
            FailedPrecondition: the database holds rows already (NOT_EMPTY), or a newer vouch wrote the rows.
        """
        if self.count():
            raise FailedPrecondition(
                "The catalog holds records already, and nothing is restored over them: name an empty database, or a "
                "state folder that does not exist yet.",
                "NOT_EMPTY",
            )
        with _opened(self._url) as database:
            migrate(database, form)
            with database.write() as connection:
                _check_form(connection, form)
                added = _insert_all(connection, lines)
                _set_counters(connection)
            migrate(database)
        return added

    @property
    def form(self) -> str:
        """The revision of its tables."""
        with _opened(self._url) as database, database.read() as connection:
            return revision(connection) or HEAD


@contextmanager
def _opened(url: str) -> Iterator[Database]:
    database = Database(url)
    try:
        yield database
    finally:
        database.close()


def _tables(connection: sa.Connection) -> list[sa.Table]:
    """Those that hold records, what others refer to first."""
    metadata = sa.MetaData()
    metadata.reflect(connection)
    return [table for table in metadata.sorted_tables if table.name != _REVISION]


def _lines(connection: sa.Connection) -> Iterator[str]:
    for table in _tables(connection):
        query = sa.select(table).order_by(*table.primary_key)
        for row in connection.execution_options(yield_per=_CHUNK).execute(query).mappings():
            yield json.dumps([table.name, dict(row)], separators=(",", ":")) + "\n"


def _check_form(connection: sa.Connection, form: str) -> None:
    if revision(connection) != form:
        raise FailedPrecondition(
            f"The database has tables of another form ({revision(connection)}) than the backup ({form}): name a "
            "database without tables.",
            "NOT_EMPTY",
        )


def _insert_all(connection: sa.Connection, lines: Iterable[str]) -> int:
    tables = {table.name: table for table in _tables(connection)}
    added = 0
    for name, rows in groupby(map(json.loads, lines), key=lambda row: str(row[0])):
        while chunk := [values for _, values in islice(rows, _CHUNK)]:
            connection.execute(sa.insert(tables[name]), chunk)
            added += len(chunk)
    return added


def _set_counters(connection: sa.Connection) -> None:
    """PostgreSQL numbers new rows from a counter of its own, which rows that bring their number do not move."""
    if connection.dialect.name != "postgresql":
        return
    for table in _tables(connection):
        for column in table.primary_key:
            counter = connection.scalar(sa.func.pg_get_serial_sequence(table.name, column.name))
            highest: Any = connection.scalar(sa.select(sa.func.max(column))) if counter else None
            if highest is not None:
                connection.execute(sa.select(sa.func.setval(counter, highest)))
