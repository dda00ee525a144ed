"""Whether everything that a system has kept is there and is what it was: read, never mended."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa

from vouch.errors import DataLoss, NotFound
from vouch.storage.blobs import BlobStore
from vouch.storage.catalog import Catalog, tables
from vouch.storage.catalog.database import Database
from vouch.storage.registry import Registry
from vouch.types.page import every


@dataclass(frozen=True, kw_only=True)
class Findings:
    """What was looked at, and every fault in words."""

    images: int
    ratings: int
    versions: int
    audit_entries: int
    problems: tuple[str, ...]


def check(
    catalog: Catalog, blobs: BlobStore, registry: Registry, *, quick: bool = False, audit_head: str = ""
) -> Findings:
    """Look at every record, image and model file.

    quick: that images are there, without reading them. audit_head: an entry that the audit log has to hold.

    Raises:
        DataLoss: the catalog cannot be read at all.
    """
    images = list(every(lambda token: catalog.images.list(page_size=1000, page_token=token)))
    versions = registry.list()
    audit = catalog.audit.verify(audit_head)
    problems = [
        *_database(catalog.url),
        *_blobs(blobs, [image.digest for image in images], quick),
        *_versions(registry, [version.name for version in versions]),
        *_serving(catalog, {version.digest for version in versions}),
        *([] if audit.broken_at is None else [f"audit log: {audit.reason}"]),
    ]
    return Findings(
        images=len(images),
        ratings=catalog.ratings.count(),
        versions=len(versions),
        audit_entries=audit.entries,
        problems=tuple(problems),
    )


def _database(url: str) -> Iterator[str]:
    """What the database says of itself. PostgreSQL verifies its own pages."""
    database = Database(url)
    try:
        if database.is_sqlite:
            with database.read() as connection:
                yield from _sqlite(connection)
        with database.read() as connection:
            yield from _repeated(connection)
    finally:
        database.close()


def _sqlite(connection: sa.Connection) -> Iterator[str]:
    for row in connection.exec_driver_sql("PRAGMA integrity_check"):
        if row[0] != "ok":
            yield f"catalog: {row[0]}"
    for row in connection.exec_driver_sql("PRAGMA foreign_key_check"):
        yield f"catalog: row {row[1]} of {row[0]} refers to one of {row[2]} that is missing"


def _repeated(connection: sa.Connection) -> Iterator[str]:
    """Ratings that one request left twice, were a unique index ever broken."""
    table = tables.ratings
    query = sa.select(table.c.recorded_by, table.c.request_id)
    for (_, request_id), count in Counter(map(tuple, connection.execute(query))).items():
        if count > 1:
            yield f"ratings: request {request_id!r} is stored {count} times"


def _blobs(blobs: BlobStore, digests: Iterable[str], quick: bool) -> Iterator[str]:
    for digest in digests:
        try:
            if not quick:
                blobs.get(digest)
            elif not blobs.exists(digest):
                yield f"image {digest}: its file is missing"
        except (DataLoss, NotFound) as error:
            yield f"image {digest}: {error.message}"


def _versions(registry: Registry, names: Iterable[str]) -> Iterator[str]:
    for name in names:
        try:
            registry.open(name)
            registry.evidence(name)
        except (DataLoss, NotFound) as error:
            yield f"version {name}: {error.message}"


def _serving(catalog: Catalog, known: set[str]) -> Iterator[str]:
    """Slots serve versions that exist, and a candidate only while its rollout is under way."""
    for serving in catalog.serving.list():
        for role in ("champion", "candidate"):
            digest = getattr(serving, role)
            if digest and digest not in known:
                yield f"slot {serving.slot}: its {role} {digest[:12]} is no version"
        active: Any = catalog.rollouts.active(serving.slot)
        if (active.version if active else "") != serving.candidate:
            yield f"slot {serving.slot}: its candidate and its rollout disagree"
