"""Generated images that nobody has any use for: not rated, not handed out, and in no model's lineage."""

from __future__ import annotations

import json
import re
from collections.abc import Collection, Iterable, Iterator
from datetime import datetime

import sqlalchemy as sa

from vouch.storage.catalog import tables
from vouch.storage.catalog.database import Database

_DIGEST = re.compile(r"[0-9a-f]{64}")
_CHUNK = 500  # digests per query


class UnusedImages:
    """Finds and forgets them. Whether an image is used is asked again inside the transaction that forgets it."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def find(self, before: datetime) -> dict[str, int]:
        """Bytes of each unused image that was drawn before this moment, by digest."""
        table = tables.images
        query = sa.select(table.c.digest, table.c.size_bytes).where(_unused(), table.c.created_at < before)
        with self._database.read() as connection:
            lineage = _in_lineage(connection)
            return {
                row.digest: row.size_bytes for row in connection.execute(query) if row.digest not in lineage
            }

    def forget(self, digests: Collection[str]) -> frozenset[str]:
        """Drop the records of those that are unused still, with their scores; answers which."""
        with self._database.write() as connection:
            lineage = _in_lineage(connection)
            gone: set[str] = set()
            for chunk in _chunks([digest for digest in digests if digest not in lineage]):
                table = tables.images
                query = sa.select(table.c.digest).where(table.c.digest.in_(chunk), _unused())
                unused = list(connection.execute(query.with_for_update()).scalars())
                for other, column in ((tables.scores, "image"), (tables.image_requests, "image")):
                    connection.execute(sa.delete(other).where(other.c[column].in_(unused)))
                connection.execute(sa.delete(table).where(table.c.digest.in_(unused)))
                gone.update(unused)
        return frozenset(gone)

    def named(self, digests: Collection[str]) -> frozenset[str]:
        """Those of these digests that are images of the catalog."""
        table, referenced = tables.images, set[str]()
        with self._database.read() as connection:
            for chunk in _chunks(list(digests)):
                referenced.update(
                    connection.execute(sa.select(table.c.digest).where(table.c.digest.in_(chunk))).scalars()
                )
        return frozenset(referenced)


def _chunks(digests: list[str]) -> Iterator[list[str]]:
    return (digests[start : start + _CHUNK] for start in range(0, len(digests), _CHUNK))


def _unused() -> sa.ColumnElement[bool]:
    images, ratings, reviews = tables.images, tables.ratings, tables.reviews
    rated = sa.exists().where(
        sa.or_(ratings.c.image == images.c.digest, ratings.c.preference_other == images.c.digest)
    )
    handed_out = sa.exists().where(reviews.c.image == images.c.digest)
    return sa.and_(images.c.source == "generated", ~rated, ~handed_out)


def _in_lineage(connection: sa.Connection) -> frozenset[str]:
    """Every digest that a version, a run or a rollout names anywhere in what it keeps."""
    versions, runs, plans = tables.versions, tables.runs, tables.rollout_plans
    columns = (versions.c.lineage, runs.c.inputs, runs.c.config, plans.c.gate, plans.c.evidence)
    return frozenset(
        digest for column in columns for digest in _digests(connection.execute(sa.select(column)).scalars())
    )


def _digests(values: Iterable[object]) -> Iterator[str]:
    for value in values:
        yield from _DIGEST.findall(json.dumps(value))
