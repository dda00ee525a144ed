"""What a rater sees, and what is known of an image."""

from __future__ import annotations

from dataclasses import dataclass

from vouch.blobs import BlobStore
from vouch.catalog import Catalog
from vouch.errors import InvalidInput, NotFound
from vouch.records import ImageRecord, RaterKind, Score
from vouch.registry import Registry


@dataclass(frozen=True, kw_only=True)
class Found:
    """A stored image, its first score, and how often it was rated. `data` is empty in lists."""

    record: ImageRecord
    data: bytes
    score: Score | None
    ratings: int
    generator_name: str


class Review:
    """Reads images for raters. Blinded: it hands out neither score nor version."""

    def __init__(self, catalog: Catalog, blobs: BlobStore, registry: Registry) -> None:
        self._catalog, self._blobs, self._registry = catalog, blobs, registry

    def next(
        self, rater: str, count: int, *, kind: RaterKind, label: str | None, generator: str | None
    ) -> list[tuple[ImageRecord, bytes]]:
        """Images that this rater has not rated, with their bytes."""
        records = self._catalog.images.next_for_review(
            rater, count=count, kind=kind, label=label, generator_version=generator
        )
        return [(record, self._blobs.get(record.digest)) for record in records]

    def image(self, digest: str) -> Found:
        """Raises InvalidInput (not a digest), NotFound, DataLoss (the stored bytes are damaged)."""
        if len(digest) != 64:
            raise InvalidInput(
                f"{digest[:80]!r} is not a digest: 64 lower-case hexadecimal digits are expected."
            )
        record = self._catalog.images.get(digest)
        return self.about(record, self._blobs.get(digest))

    def about(self, record: ImageRecord, data: bytes = b"") -> Found:
        scores = self._catalog.images.scores(record.digest)
        ratings = len(
            self._catalog.ratings.list(image=record.digest, current_only=True, page_size=1000).items
        )
        return Found(
            record=record,
            data=data,
            score=scores[-1] if scores else None,
            ratings=ratings,
            generator_name=self._name(record.generator_version),
        )

    def _name(self, version: str) -> str:
        try:
            return self._registry.get(version).name if version else ""
        except NotFound:
            return ""  # an image imported from elsewhere names a version that was never here
