"""Which images an expert should look at next: those whose verdict would teach the reward model the most. Pure."""

from __future__ import annotations

import random
import statistics
from collections.abc import Mapping, Sequence

from vouch.records import ImageRecord, Score

FLOOR = 0.05  # of each factor: nothing is ever impossible
NEAR = 0.15  # distance from the threshold at which a score counts half
NOVEL = 0.1  # distance from what was chosen already at which an image counts half


def choose(
    candidates: Sequence[ImageRecord],
    scores: Mapping[str, Score],
    count: int,
    *,
    threshold: float,
    chance: random.Random,
) -> list[ImageRecord]:
    """Up to `count` of them, drawn with weights: how far the ensemble disagrees × how near the score is to the
    threshold of filtering × how different the image is from those chosen before it.

    An image without a score counts as the middle one of those that have one; without any score, all count the same.
    """
    worth = _worth(candidates, scores, threshold)
    left, chosen = list(candidates), list[ImageRecord]()
    while left and len(chosen) < count:
        weights = [worth[image.digest] * _novelty(image, chosen, scores) for image in left]
        (image,) = chance.choices(left, weights)
        chosen.append(image)
        left.remove(image)
    return chosen


def _worth(
    candidates: Sequence[ImageRecord], scores: Mapping[str, Score], threshold: float
) -> dict[str, float]:
    most = max((score.std for score in scores.values()), default=0.0) or 1.0
    known = {
        image: (FLOOR + score.std / most) * (FLOOR + _half_at(NEAR, score.overall - threshold))
        for image, score in scores.items()
    }
    middle = statistics.median(known.values()) if known else 1.0
    return {image.digest: known.get(image.digest, middle) for image in candidates}


def _novelty(image: ImageRecord, chosen: Sequence[ImageRecord], scores: Mapping[str, Score]) -> float:
    nearest = min((_distance(image, other, scores) for other in chosen), default=float("inf"))
    return FLOOR + 1 - _half_at(NOVEL, nearest)


def _distance(one: ImageRecord, other: ImageRecord, scores: Mapping[str, Score]) -> float:
    """By what the reward model says of them: images of one class that fail the same criteria are alike."""
    if one.label != other.label:
        return 1.0
    first, second = scores.get(one.digest), scores.get(other.digest)
    if first is None or second is None:
        return NOVEL
    asked = {"": first.overall, **first.criteria}, {"": second.overall, **second.criteria}
    return sum(abs(asked[0][name] - asked[1].get(name, 0.5)) for name in asked[0]) / len(asked[0])


def _half_at(width: float, distance: float) -> float:
    """1 at no distance, one half at `width`, 0 far away."""
    return 1 / (1 + (distance / width) ** 2)
