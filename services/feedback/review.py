"""What a rater sees, and what is known of an image."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import replace

from services.feedback.selection import Choice, choose
from vouch.errors import InvalidInput
from vouch.settings import ReviewSettings
from vouch.storage.blobs import BlobStore
from vouch.storage.catalog import Catalog
from vouch.types.image import ImageRecord, StoredImage
from vouch.types.rating import RaterKind
from vouch.types.review import HandedOut, ReviewStratum
from vouch.types.score import image_fields

POOL = 400  # images that one call chooses from
RECENT = 64  # images rated last: what is like them waits until the reward has learned from them
MAX_GOLD = 50


class Review:
    """Reads images for raters. Blinded: it hands out neither score nor version nor source."""

    def __init__(
        self,
        catalog: Catalog,
        blobs: BlobStore,
        settings: ReviewSettings | None = None,
        chance: random.Random | None = None,
    ) -> None:
        self._catalog, self._blobs = catalog, blobs
        self._settings, self._chance = settings or ReviewSettings(), chance or random.Random()

    def next(
        self, rater: str, count: int, *, kind: RaterKind, label: str | None, generator: str | None
    ) -> list[tuple[ImageRecord, bytes]]:
        """Images for this rater, with their bytes: those that teach the most among the least rated ones that they have
        not rated, some of these drawn uniformly, and hidden between them some real ones and some that they have. How
        each was chosen is logged. Nothing when nothing new is left."""
        fresh = self._catalog.images.next_for_review(
            rater, count=POOL, kind=kind, label=label, generator_version=generator
        )
        recent = self._catalog.images.rated_last(kind=kind, count=RECENT)
        scores = self._catalog.images.latest_scores([image.digest for image in (*fresh, *recent)])
        chosen = choose(
            fresh,
            scores,
            count,
            threshold=self._settings.threshold,
            chance=self._chance,
            beside=recent,
            uniform_share=self._settings.uniform_share,
        )
        shown = self._with_gold(chosen, rater, kind, label, generator)
        items = [(record, self._blobs.get(record.digest)) for record, _ in shown]
        self._catalog.reviews.add(logged for _, logged in shown)
        return items

    def _with_gold(
        self,
        chosen: list[Choice],
        rater: str,
        kind: RaterKind,
        label: str | None,
        generator: str | None,
    ) -> list[tuple[ImageRecord, HandedOut]]:
        """Some of the chosen give way to images that show how reliable the rater is."""
        images = self._catalog.images
        real = list(images.next_for_review(rater, count=MAX_GOLD, kind=kind, label=label, sources=("real",)))
        seen = list(
            images.rated_by(rater, kind=kind, label=label, generator_version=generator, count=MAX_GOLD)
        )
        shares = self._settings.real_share, self._settings.repeat_share
        items = []
        for choice in chosen:
            fate = self._chance.random()
            gold = real if fate < shares[0] else seen if fate < sum(shares) else []
            image = _in_place_of(choice.image, gold) if gold else choice.image
            items.append((image, _logged(image, choice, rater, kind)))
        return items

    def image(self, digest: str, owner: str | None = None) -> StoredImage:
        """Raises InvalidInput (not a digest), NotFound (also where it is not the owner's), DataLoss (the stored bytes
        are damaged)."""
        if len(digest) != 64:
            raise InvalidInput(
                f"{digest[:80]!r} is not a digest: 64 lower-case hexadecimal digits are expected."
            )
        record = self._catalog.images.get(digest, owner=owner)
        (image,) = self.about([record])
        return replace(image, data=self._blobs.get(digest))

    def about(self, records: Sequence[ImageRecord]) -> list[StoredImage]:
        """What is known of these images beside their bytes: the first score of each, and how often it was rated."""
        digests = [record.digest for record in records]
        scores = self._catalog.images.first_scores(digests)
        ratings = self._catalog.ratings.counts(digests)
        # An image imported from elsewhere may name a version that was never here: it has no name.
        names = self._catalog.versions.names_of(record.generator_version for record in records)
        return [
            StoredImage(
                **vars(record),
                **image_fields(scores.get(record.digest)),
                rating_count=ratings.get(record.digest, 0),
                generator_name=names.get(record.generator_version, ""),
            )
            for record in records
        ]


def _logged(image: ImageRecord, choice: Choice, rater: str, kind: RaterKind) -> HandedOut:
    new = image is choice.image
    stratum: ReviewStratum = choice.stratum if new else "real" if image.source == "real" else "repeat"
    return HandedOut(
        image=image.digest,
        rater=rater,
        kind=kind,
        stratum=stratum,
        propensity=choice.propensity if new else None,
    )


def _in_place_of(image: ImageRecord, gold: list[ImageRecord]) -> ImageRecord:
    """Takes from `gold` what is worded most like the image that gives way, by its class alone or with attributes too,
    and of its class where possible: a prompt unlike all others would tell that something is hidden."""

    def unlike(one: ImageRecord) -> tuple[bool, bool]:
        return ("," in one.prompt) != ("," in image.prompt), one.label != image.label

    chosen = min(gold, key=unlike)
    gold.remove(chosen)
    return chosen
