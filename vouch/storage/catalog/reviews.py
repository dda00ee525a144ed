"""What the review queue handed out to raters, and how it was chosen: which ratings are a fair sample."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import asdict
from typing import Any

import sqlalchemy as sa

from vouch.storage.catalog import tables
from vouch.storage.catalog.database import Database
from vouch.storage.catalog.images import get_image
from vouch.types.review import HandedOut


class Reviews:
    """A log: rows are added and never changed."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def add(self, handed_out: Iterable[HandedOut]) -> None:
        """Raises NotFound for an image that was never stored; nothing is written then."""
        with self._database.write() as connection:
            for one in handed_out:
                get_image(connection, one.image)
                connection.execute(sa.insert(tables.reviews).values(asdict(one)))

    def of(self, image: str) -> tuple[HandedOut, ...]:
        """Every time that this image was handed out, oldest first."""
        table = tables.reviews
        query = sa.select(table).where(table.c.image == image).order_by(table.c.seq)
        with self._database.read() as connection:
            return tuple(_handed_out(row) for row in connection.execute(query))

    def uniform(self) -> frozenset[str]:
        """Digests of the images that were handed out first by a uniform draw: their ratings are a fair sample of what
        generators drew. An image that was chosen by its score before is none of them."""
        table = tables.reviews
        first = (
            sa.select(sa.func.min(table.c.seq))
            .where(table.c.stratum.in_(("uniform", "queue")))
            .group_by(table.c.image)
        )
        query = sa.select(table.c.image).where(table.c.seq.in_(first), table.c.stratum == "uniform")
        with self._database.read() as connection:
            return frozenset(connection.execute(query).scalars())


def _handed_out(row: Any) -> HandedOut:
    return HandedOut(**{name: value for name, value in row._mapping.items() if name != "seq"})
