"""Connections and transactions, and what a database's complaints mean to a user."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from typing import Any
from urllib.parse import parse_qsl, unquote

import sqlalchemy as sa
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.exc import ArgumentError, DBAPIError, NoSuchModuleError

from vouch.errors import (
    DataLoss,
    Exhausted,
    FailedPrecondition,
    InvalidInput,
    StorageFull,
    Unavailable,
    VouchError,
)

SQLITE = "sqlite:///"
BUSY_TIMEOUT_S = 30  # how long a writer waits for the other writers of a SQLite file


class Database:
    """One engine. `read()` and `write()` are its transactions."""

    def __init__(self, url: str) -> None:
        self.url = _normalised(url)
        self.is_sqlite = self.url.get_backend_name() == "sqlite"
        self._engine = self._make_engine()

    @contextmanager
    def read(self) -> Iterator[sa.Connection]:
        with database_errors(), self._engine.begin() as connection:
            yield connection

    @contextmanager
    def snapshot(self) -> Iterator[sa.Connection]:
        """A transaction whose every read sees the same moment. A read of SQLite does so by itself."""
        engine = self._engine if self.is_sqlite else self._repeatable
        with database_errors(), engine.begin() as connection:
            yield connection

    @contextmanager
    def write(self) -> Iterator[sa.Connection]:
        """A transaction that takes SQLite's write lock at once: a read that later wants to write would fail
        instead of waiting when another writer came between."""
        with database_errors(), self._writer.begin() as connection:
            yield connection

    @contextmanager
    def alone(self, key: int) -> Iterator[bool]:
        """Whether this process holds the lock `key`, which one process has at a time; a killed one lets go by dying.

        A PostgreSQL advisory lock, or a lock on a file beside the SQLite file.
        """
        if self.is_sqlite:
            with _file_alone(f"{self.url.database}.lock-{key}") as held:
                yield held
            return
        with database_errors(), self._engine.connect() as connection:
            connection = connection.execution_options(isolation_level="AUTOCOMMIT")
            held = bool(connection.scalar(sa.select(sa.func.pg_try_advisory_lock(key))))
            try:
                yield held
            finally:
                if held:
                    connection.execute(sa.select(sa.func.pg_advisory_unlock(key)))

    @property
    def _repeatable(self) -> sa.Engine:
        return self._engine.execution_options(isolation_level="REPEATABLE READ")

    @property
    def _writer(self) -> sa.Engine:
        return self._engine.execution_options(vouch_write=True)

    def close(self) -> None:
        self._engine.dispose()

    def _make_engine(self) -> sa.Engine:
        if not self.is_sqlite:
            return sa.create_engine(self.url, pool_pre_ping=True, pool_size=8, max_overflow=24)
        _make_private(self.url.database or "")
        engine = sa.create_engine(
            self.url, connect_args={"timeout": BUSY_TIMEOUT_S, "check_same_thread": False}
        )
        sa.event.listen(engine, "connect", _prepare_sqlite)
        sa.event.listen(engine, "begin", _begin_sqlite)
        return engine


@contextmanager
def _file_alone(path: str) -> Iterator[bool]:
    handle = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        yield True
    except BlockingIOError:
        yield False
    finally:
        os.close(handle)


def _make_private(path: str) -> None:
    """A new file that its owner alone may read. SQLite gives its own files beside it the same mode. One that is there
    is not opened: closing it would drop the locks that SQLite holds on it in this process."""
    with suppress(OSError):  # what is wrong with the place, SQLite says better
        os.close(os.open(path, os.O_RDONLY | os.O_CREAT | os.O_EXCL, 0o600))


def _normalised(text: str) -> sa.URL:
    try:
        url = _sqlite(text) or sa.make_url(text)
        url.get_dialect()
    except (ArgumentError, NoSuchModuleError) as error:
        raise InvalidInput(
            "The catalog's URL is not one: use sqlite:///FILE or postgresql://HOST/NAME."
        ) from error
    backend = url.get_backend_name()
    if backend == "postgresql":
        return url.set(drivername="postgresql+psycopg")
    if backend == "sqlite" and url.database and url.database != ":memory:":
        return url
    raise InvalidInput(f"A catalog cannot live in {text!r}: use sqlite:///FILE or postgresql://HOST/NAME.")


def _sqlite(text: str) -> sa.URL | None:
    """The URL of a SQLite file, unquoted here: versions of SQLAlchemy differ in whether they do so."""
    if not text.startswith(SQLITE):
        return None
    path, _, query = text.removeprefix(SQLITE).partition("?")
    return sa.URL.create("sqlite", database=unquote(path), query=dict(parse_qsl(query)))


def _prepare_sqlite(connection: Any, _: object) -> None:
    connection.isolation_level = None  # transactions begin where we say so, not where the driver guesses
    cursor = connection.cursor()
    for pragma in (
        "journal_mode=WAL",
        "synchronous=FULL",
        f"busy_timeout={BUSY_TIMEOUT_S * 1000}",
        "foreign_keys=ON",
    ):
        cursor.execute(f"PRAGMA {pragma}")
    cursor.close()


def _begin_sqlite(connection: sa.Connection) -> None:
    writes = connection.get_execution_options().get("vouch_write", False)
    connection.exec_driver_sql("BEGIN IMMEDIATE" if writes else "BEGIN")


def insert_once(connection: sa.Connection, table: sa.Table, values: Mapping[str, Any]) -> bool:
    """Insert a row unless one of its unique keys is taken; True when it was inserted.

    A competing insert that is not committed yet is waited for, so that a False can be looked up.
    """
    insert = postgresql.insert if connection.dialect.name == "postgresql" else sqlite.insert
    key = next(iter(table.primary_key))
    # A row that comes back is the sign: drivers count rows differently.
    statement = insert(table).values(dict(values)).on_conflict_do_nothing().returning(key)
    return connection.execute(statement).first() is not None


@contextmanager
def database_errors() -> Iterator[None]:
    """Translate a database's complaint into one of ours. A violated constraint passes: it is for the caller."""
    try:
        yield
    except DBAPIError as error:
        known = _sqlite_error(error) or _postgres_error(error)
        if known is None:
            raise
        raise known from error


def _sqlite_error(error: DBAPIError) -> VouchError | None:
    text = str(error.orig)
    if "database or disk is full" in text or "disk I/O error" in text:
        # A write that the system refuses (quota, file size limit) reads as an I/O error.
        return StorageFull("The catalog could not be written: the disk is full. Free some space and repeat.")
    if "database is locked" in text or "database table is locked" in text:
        return Unavailable(
            "The catalog is busy: another process has been writing for long. Repeat in a moment."
        )
    if "unable to open database file" in text or "readonly database" in text:
        return FailedPrecondition(
            "The catalog file cannot be opened for writing: check that its folder exists and is yours."
        )
    if "file is not a database" in text or "malformed" in text:
        return DataLoss("The catalog file is damaged. Restore it from a backup.")
    return None


def _postgres_error(error: DBAPIError) -> VouchError | None:
    state = str(getattr(error.orig, "sqlstate", None) or "")
    if state == "53100":
        return StorageFull("The catalog's database has no disk space left. Free some space and repeat.")
    if state.startswith("53"):
        return Exhausted("The catalog's database has no connections or memory left. Repeat in a moment.")
    if state.startswith(("08", "57P", "40")) or error.connection_invalidated:
        return Unavailable("The catalog's database does not answer. Repeat in a moment.")
    if state.startswith(("28", "3D", "42501")):
        return FailedPrecondition(
            "The catalog's database refuses this user or does not exist: check VOUCH_CATALOG_URL."
        )
    if not state and type(error).__name__ == "OperationalError" and "psycopg" in type(error.orig).__module__:
        return Unavailable(
            "The catalog's database cannot be reached: check VOUCH_CATALOG_URL and that it runs."
        )
    return None
