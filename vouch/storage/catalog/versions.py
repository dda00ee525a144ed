"""The index of model versions. `vouch.storage.registry.Registry` is what others use: it knows the files too."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import asdict
from typing import Any

import sqlalchemy as sa

from vouch.errors import InvalidInput, NotFound
from vouch.storage.catalog import pages, tables
from vouch.storage.catalog.database import Database, insert_once
from vouch.types.page import Page
from vouch.types.version import FileEntry, Version, VersionKind

MIN_PREFIX = 8
_HEX = re.compile(r"[0-9a-f]{8,64}")


class Versions:
    """Versions by name, digest or unique beginning of a digest."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def add(self, version: Version) -> bool:
        """Index a version; False when its name (or digest) is taken."""
        row = {
            **asdict(version),
            "lineage": dict(version.lineage),
            "run_id": str(version.lineage.get("run_id") or ""),
        }
        with self._database.write() as connection:
            return insert_once(connection, tables.versions, row)

    def get(self, ref: str) -> Version:
        """The version with this name, digest, or beginning of a digest (8 characters or more).

        Raises:
            NotFound: none is called so.
            InvalidInput: several digests begin so.
        """
        version = self.find(ref)
        if version is None:
            raise NotFound(
                f"There is no version {ref!r}: `vouch versions` lists them by name and digest.",
                "VERSION_NOT_FOUND",
            )
        return version

    def find(self, ref: str) -> Version | None:
        """As `get`, with None for none."""
        table = tables.versions
        with self._database.read() as connection:
            row = connection.execute(sa.select(table).where(table.c.name == ref)).first()
            if row is not None or not _HEX.fullmatch(ref):
                return None if row is None else _version(row)
            rows = connection.execute(sa.select(table).where(table.c.digest.startswith(ref)).limit(2)).all()
        if len(rows) > 1:
            raise InvalidInput(
                f"Several versions begin with {ref}: give more of the digest.", "AMBIGUOUS_VERSION"
            )
        return _version(rows[0]) if rows else None

    def of_run(self, run_id: str) -> tuple[Version, ...]:
        """What a run published, oldest first."""
        table = tables.versions
        query = sa.select(table).where(table.c.run_id == run_id, table.c.run_id != "").order_by(table.c.seq)
        with self._database.read() as connection:
            return tuple(_version(row) for row in connection.execute(query))

    def list(
        self,
        kind: VersionKind | None = None,
        *,
        page_size: int = pages.DEFAULT_PAGE_SIZE,
        page_token: str = "",
    ) -> Page[Version]:
        """Newest first."""
        with self._database.read() as connection:
            return pages.read_page(
                connection,
                tables.versions,
                {"kind": kind},
                _version,
                page_size=page_size,
                page_token=page_token,
            )

    def names_of(self, digests: Iterable[str]) -> dict[str, str]:
        """The name of each of these digests that is known here."""
        table, wanted = tables.versions, {digest for digest in digests if digest}
        if not wanted:
            return {}
        query = sa.select(table.c.digest, table.c.name).where(table.c.digest.in_(wanted))
        with self._database.read() as connection:
            return {row.digest: row.name for row in connection.execute(query)}

    def names(self, prefix: str) -> tuple[str, ...]:
        """Names that begin so."""
        table = tables.versions
        query = sa.select(table.c.name).where(table.c.name.startswith(prefix, autoescape=True))
        with self._database.read() as connection:
            return tuple(connection.execute(query).scalars())


def _version(row: Any) -> Version:
    values = dict(row._mapping)
    del values["seq"], values["run_id"]
    values["files"] = {path: FileEntry(**entry) for path, entry in values["files"].items()}
    return Version(**values)
