"""Two reward versions on the images that vouch stores: where a threshold went when the reward changed.

Every score keeps the version that gave it, so an image that the old version scored needs the new one's opinion once,
and both stay.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from vouch.errors import FailedPrecondition, InvalidInput, NotFound
from vouch.formats import images as codec
from vouch.storage.blobs import BlobStore
from vouch.storage.catalog import Catalog
from vouch.types.image import ImageRecord
from vouch.types.score import Score
from vouch.types.scores import Scores

BATCH = 64
ROUNDS = 500
LEAST = 20
"""Images below which nothing is said."""


ScoreImages = Callable[[np.ndarray, Sequence[str]], Scores]
"""uint8 [N, H, W, 3] and N prompts to scores; raises InvalidInput for a prompt that it does not know."""


@dataclass(frozen=True, kw_only=True)
class Moved:
    """One threshold. Shares are of all images compared, 0 to 1."""

    threshold: float
    kept_before: float
    """The share that scores at least `threshold` under the old version."""
    kept_after: float
    """The share that does so under the new one: what happens to whoever changes nothing."""
    same_share: float
    """The threshold under the new version that keeps the old share (quantile mapping)."""
    same_share_low: float
    same_share_high: float
    """Its 95 % interval by the bootstrap over images."""
    same_images: float
    """Of the images that the old version keeps, the share that the new one keeps at `same_share`."""


@dataclass(frozen=True, kw_only=True)
class ThresholdComparison:
    """What became of the scores."""

    images: int
    rank_agreement: float
    """Spearman's correlation of the two versions' scores: 1 is the same order."""
    mean_before: float
    mean_after: float
    thresholds: tuple[Moved, ...]


@dataclass(frozen=True, kw_only=True)
class Rescored:
    """Images that were scored now, and those that could not be."""

    scored: int
    failed: int


def rescore(
    catalog: Catalog,
    blobs: BlobStore,
    old: str,
    new: str,
    score: ScoreImages,
    on_progress: Callable[[int, int], None] = lambda done, total: None,
) -> Rescored:
    """Gives every stored image that `old` scored and `new` did not its score by `new` (digests).

    Scores are stored batch by batch, so an interrupted call goes on where it stopped. An image whose bytes are gone, or
    whose prompt the new version does not know, is counted as failed.
    """
    waiting = sorted(catalog.images.scored_by(old).keys() - catalog.images.scored_by(new).keys())
    scored = done = 0
    for start in range(0, len(waiting), BATCH):
        part = waiting[start : start + BATCH]
        scores = [one for group in _readable(catalog, blobs, part) for one in _scores(group, new, score)]
        catalog.images.add_scores(scores)
        scored, done = scored + len(scores), done + len(part)
        on_progress(done, len(waiting))
    return Rescored(scored=scored, failed=len(waiting) - scored)


def compare(before: np.ndarray, after: np.ndarray, thresholds: Sequence[float]) -> ThresholdComparison:
    """Scores [N] of the same images by the old and the new version.

    Raises:
        InvalidInput: a threshold that is no score.
        FailedPrecondition: too few images to say anything.
    """
    for threshold in thresholds:
        if not 0 <= threshold <= 1:
            raise InvalidInput(f"A threshold is a score from 0 to 1, not {threshold}.")
    if len(before) < LEAST:
        raise FailedPrecondition(
            f"Only {len(before)} stored images have a score by both versions, and {LEAST} are needed to compare. "
            "Generate with the old version serving, so that images with its scores are stored.",
            "TOO_FEW_IMAGES",
        )
    return ThresholdComparison(
        images=len(before),
        rank_agreement=_rank_agreement(before, after),
        mean_before=float(before.mean()),
        mean_after=float(after.mean()),
        thresholds=tuple(_moved(before, after, threshold) for threshold in thresholds),
    )


def both(catalog: Catalog, old: str, new: str) -> tuple[np.ndarray, np.ndarray]:
    """The scores [N] of all images that both versions scored, in one order."""
    before, after = catalog.images.scored_by(old), catalog.images.scored_by(new)
    common = sorted(before.keys() & after.keys())
    return np.array([before[d] for d in common]), np.array([after[d] for d in common])


def same_share(before: np.ndarray, after: np.ndarray, threshold: float) -> float:
    """The highest threshold on `after` that keeps as many as `threshold` keeps of `before`; 1 where that is none."""
    kept = int((before >= threshold).sum())
    return float(np.sort(after)[len(after) - kept]) if kept else 1.0


def _moved(before: np.ndarray, after: np.ndarray, threshold: float) -> Moved:
    new = same_share(before, after, threshold)
    rows = np.random.default_rng(0).integers(0, len(before), (ROUNDS, len(before)))
    low, high = np.percentile([same_share(before[r], after[r], threshold) for r in rows], [2.5, 97.5])
    kept = before >= threshold
    return Moved(
        threshold=threshold,
        kept_before=float(kept.mean()),
        kept_after=float((after >= threshold).mean()),
        same_share=new,
        same_share_low=float(low),
        same_share_high=float(high),
        same_images=float((after[kept] >= new).mean()) if kept.any() else 1.0,
    )


def _rank_agreement(before: np.ndarray, after: np.ndarray) -> float:
    from scipy.stats import spearmanr

    return float(spearmanr(before, after).statistic)


Readable = tuple[ImageRecord, np.ndarray]


def _readable(catalog: Catalog, blobs: BlobStore, digests: Sequence[str]) -> Iterator[list[Readable]]:
    """Records with their pixels, images of one size together."""
    groups: dict[tuple[int, ...], list[Readable]] = {}
    for digest in digests:
        record = catalog.images.get(digest)
        try:
            pixels = codec.decode(blobs.get(digest))
        except (NotFound, InvalidInput):
            continue
        groups.setdefault(pixels.shape, []).append((record, pixels))
    yield from groups.values()


def _scores(group: Sequence[Readable], version: str, score: ScoreImages) -> list[Score]:
    """One image that cannot be scored must not cost the others theirs."""
    try:
        scored = score(np.stack([pixels for _, pixels in group]), [record.prompt for record, _ in group])
    except InvalidInput:
        return [] if len(group) == 1 else [one for pair in group for one in _scores([pair], version, score)]
    return [
        Score(
            image=record.digest,
            version=version,
            overall=float(scored.overall[row]),
            std=float(scored.std[row]),
            criteria={name: float(values[row]) for name, values in scored.criteria.items()},
        )
        for row, (record, _) in enumerate(group)
    ]
