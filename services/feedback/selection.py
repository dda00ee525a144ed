"""Which images an expert should look at next: those whose verdict would teach the reward model the most, and a uniform
sample on which it can be measured. Pure."""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from vouch.types.image import ImageRecord
from vouch.types.score import Score

FLOOR = 0.05  # of each factor: nothing is ever impossible
NEAR = 0.15  # distance from the threshold at which a score counts half
NOVEL = 0.1  # distance from what was chosen already at which an image counts half
OTHER_CLASS = 1.0  # distance of images of two classes


@dataclass(frozen=True)
class Choice:
    """A chosen image, the stratum that it was drawn from, and its chance of being drawn in its turn."""

    image: ImageRecord
    stratum: Literal["uniform", "queue"]
    propensity: float


def choose(
    candidates: Sequence[ImageRecord],
    scores: Mapping[str, Score],
    count: int,
    *,
    threshold: float,
    chance: random.Random,
    beside: Sequence[ImageRecord] = (),
    uniform_share: float = 0.0,
) -> list[Choice]:
    """Up to `count` of them, from two strata. `uniform_share` of them are drawn with equal chances from the images that
    `is_reserved` names; what raters say of those is a fair sample, because no score ever decided about them. The rest
    are drawn from the other images with weights: how far the ensemble disagrees × how near the score is to the
    threshold of filtering × how different the image is from those chosen before it and from those in `beside`.

    They are drawn, not the best ones taken: where the ensemble is least sure it is also least to be trusted, and a
    batch of nothing but hard cases lets it forget the easy ones. An image without a score counts as the middle one of
    those that have one; without any score, all count the same. While one stratum is empty, all come from the other.
    """
    images = [*candidates, *beside]
    labels = np.array([image.label for image in images])
    answers = _answers(images, scores)
    worth = _worth(candidates, scores, threshold)
    nearest = np.full(len(candidates), np.inf)
    for row in range(len(candidates), len(images)):
        nearest = np.minimum(nearest, _distances(row, labels, answers)[: len(candidates)])
    reserved = np.array([is_reserved(image.digest, uniform_share) for image in candidates], bool)
    left, chosen = np.ones(len(candidates), bool), list[Choice]()
    while len(chosen) < min(count, len(candidates)):
        both = (left & reserved).any() and (left & ~reserved).any()
        uniform = chance.random() < uniform_share if both else bool((left & reserved).any())
        side = 1.0 if not both else uniform_share if uniform else 1 - uniform_share
        weights = np.ones(len(candidates)) if uniform else worth * (FLOOR + 1 - _half_at(NOVEL, nearest))
        weights = weights * (left & (reserved if uniform else ~reserved))
        (row,) = chance.choices(range(len(candidates)), weights.tolist())
        propensity = side * float(weights[row] / weights.sum())
        chosen.append(Choice(candidates[row], "uniform" if uniform else "queue", propensity))
        left[row] = False
        nearest = np.minimum(nearest, _distances(row, labels, answers)[: len(candidates)])
    return chosen


def is_reserved(digest: str, share: float) -> bool:
    """Whether an image belongs to the uniform stratum. Its digest decides: were the stratum drawn from what the queue
    has left over, it would lack the hard images that the queue took."""
    return random.Random(f"uniform {digest}").random() < share


def _worth(candidates: Sequence[ImageRecord], scores: Mapping[str, Score], threshold: float) -> np.ndarray:
    """[N], disagreement × nearness."""
    known = [scores.get(image.digest) for image in candidates]
    std = np.array([score.std if score else np.nan for score in known])
    overall = np.array([score.overall if score else np.nan for score in known])
    scored = ~np.isnan(std)
    if not scored.any():
        return np.ones(len(candidates))
    worth = (FLOOR + std / (std[scored].max() or 1.0)) * (FLOOR + _half_at(NEAR, overall - threshold))
    return np.where(scored, worth, np.median(worth[scored]))


def _answers(images: Sequence[ImageRecord], scores: Mapping[str, Score]) -> np.ndarray:
    """[N, 1 + criteria], what the reward model says of them: nan for an image without a score."""
    names = sorted({name for score in scores.values() for name in score.criteria})
    nothing = [np.nan] * (1 + len(names))

    def reward_of(score: Score | None) -> list[float]:
        return [score.overall, *(score.criteria.get(name, 0.5) for name in names)] if score else nothing

    return np.array([reward_of(scores.get(image.digest)) for image in images])


def _distances(row: int, labels: np.ndarray, answers: np.ndarray) -> np.ndarray:
    """[N], from the image in `row`: images of one class that fail the same criteria are alike."""
    apart = np.abs(answers - answers[row]).mean(axis=1)
    return np.where(labels == labels[row], np.where(np.isnan(apart), NOVEL, apart), OTHER_CLASS)


def _half_at(width: float, distance: np.ndarray) -> np.ndarray:
    """1 at no distance, one half at `width`, 0 far away."""
    return 1 / (1 + (distance / width) ** 2)
