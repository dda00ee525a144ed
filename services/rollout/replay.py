"""Draws a served image again from its record, and compares the two. No Ray."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from services.rollout.comparison import Draw, replay_request
from vouch.errors import FailedPrecondition
from vouch.formats import images
from vouch.storage.blobs import BlobStore
from vouch.storage.catalog import Catalog
from vouch.types.image import ImageRecord

GREY_LEVELS = 1
"""Other batch mates may move a pixel so far: floating-point sums depend on their order."""


@dataclass(frozen=True)
class Replay:
    """An image that was drawn again, encoded as PNG. largest_difference: of a pixel, in grey levels."""

    record: ImageRecord
    data: bytes
    largest_difference: int

    @property
    def same(self) -> bool:
        return self.largest_difference <= GREY_LEVELS

    @property
    def equal(self) -> bool:
        return self.largest_difference == 0


class Replays:
    """Replays what the catalog knows of; `draw` carries out an order with the version that it names."""

    def __init__(self, catalog: Catalog, blobs: BlobStore, draw: Draw) -> None:
        self._catalog, self._blobs, self._draw = catalog, blobs, draw

    def replay(self, digest: str) -> Replay:
        """Raises NotFound (no such image, or its version is gone), FailedPrecondition (no generator drew it), DataLoss
        (the stored file is not what was drawn; it is named), and what drawing raises."""
        record = self._catalog.images.get(digest)
        if record.source != "generated" or record.seed is None or not record.generator_version:
            raise FailedPrecondition(
                f"Image {digest[:12]} was not drawn by a generator ({record.source}): there is nothing to draw again.",
                "NOT_GENERATED",
            )
        stored = self._blobs.get(digest)
        self._catalog.versions.get(record.generator_version)
        drawn = self._draw(replay_request(record, record.generator_version))[0]
        return Replay(record, drawn.data, largest_difference(stored, drawn.data))


def largest_difference(first: bytes, second: bytes) -> int:
    """Of two encoded images, in grey levels; 255 where their sizes differ."""
    if first == second:
        return 0
    one, other = images.decode(first), images.decode(second)
    if one.shape != other.shape:
        return 255
    return int(np.abs(one.astype(np.int16) - other.astype(np.int16)).max())
