"""Brings a database to the newest form, once, whoever comes first."""

from __future__ import annotations

from pathlib import Path

import sqlalchemy as sa

from vouch.errors import FailedPrecondition
from vouch.storage.catalog.database import Database

# The newest revision in migrations/versions (a test compares). A constant, so that opening a catalog that is
# up to date need not import Alembic.
HEAD = "0006"
_SCRIPTS = Path(__file__).parent / "migrations"
_LOCK = 0x766F756368  # "vouch", the advisory lock that processes of one PostgreSQL queue at


def migrate(database: Database, target: str = "") -> None:
    """Upgrade to HEAD, or to an older revision `target`, in one transaction; a no-op when there already.

    Raises:
        FailedPrecondition: a newer vouch made this catalog.
    """
    target = target or HEAD
    with database.read() as connection:
        if revision(connection) == target:
            return
    with database.write() as connection:
        if not database.is_sqlite:
            connection.execute(sa.select(sa.func.pg_advisory_xact_lock(_LOCK)))
        if revision(connection) != target:
            _upgrade(connection, target)


def revision(connection: sa.Connection) -> str | None:
    """The form of its tables; None where there are none."""
    if not sa.inspect(connection).has_table("alembic_version"):
        return None
    return connection.execute(sa.text("SELECT version_num FROM alembic_version")).scalar()


def _upgrade(connection: sa.Connection, target: str) -> None:
    from alembic import command
    from alembic.config import Config
    from alembic.util.exc import CommandError

    config = Config()
    config.set_main_option("script_location", str(_SCRIPTS).replace("%", "%%"))
    config.attributes["connection"] = connection
    try:
        command.upgrade(config, target)
    except CommandError as error:
        raise FailedPrecondition(
            f"This catalog was made by a newer vouch ({error}). Update vouch, or choose another state folder.",
            "CATALOG_TOO_NEW",
        ) from error
