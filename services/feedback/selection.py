"""Which images an expert should look at next: those whose verdict would teach the reward model the most. Pure."""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence

import numpy as np

from vouch.records import ImageRecord, Score

FLOOR = 0.05  # of each factor: nothing is ever impossible
NEAR = 0.15  # distance from the threshold at which a score counts half
NOVEL = 0.1  # distance from what was chosen already at which an image counts half
OTHER_CLASS = 1.0  # distance of images of two classes


def choose(
    candidates: Sequence[ImageRecord],
    scores: Mapping[str, Score],
    count: int,
    *,
    threshold: float,
    chance: random.Random,
    beside: Sequence[ImageRecord] = (),
) -> list[ImageRecord]:
    """Up to `count` of them, drawn with weights: how far the ensemble disagrees × how near the score is to the
    threshold of filtering × how different the image is from those chosen before it and from those in `beside`.

    They are drawn, not the best ones taken: where the ensemble is least sure it is also least to be trusted, and a
    batch of nothing but hard cases lets it forget the easy ones. An image without a score counts as the middle one of
    those that have one; without any score, all count the same.
    """
    images = [*candidates, *beside]
    labels = np.array([image.label for image in images])
    answers = _answers(images, scores)
    worth = _worth(candidates, scores, threshold)
    nearest = np.full(len(candidates), np.inf)
    for row in range(len(candidates), len(images)):
        nearest = np.minimum(nearest, _distances(row, labels, answers)[: len(candidates)])
    chosen: list[int] = []
    while len(chosen) < min(count, len(candidates)):
        weights = worth * (FLOOR + 1 - _half_at(NOVEL, nearest))
        weights[chosen] = 0.0
        (row,) = chance.choices(range(len(candidates)), weights.tolist())
        chosen.append(row)
        nearest = np.minimum(nearest, _distances(row, labels, answers)[: len(candidates)])
    return [candidates[row] for row in chosen]


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

    def said(score: Score | None) -> list[float]:
        return [score.overall, *(score.criteria.get(name, 0.5) for name in names)] if score else nothing

    return np.array([said(scores.get(image.digest)) for image in images])


def _distances(row: int, labels: np.ndarray, answers: np.ndarray) -> np.ndarray:
    """[N], from the image in `row`: images of one class that fail the same criteria are alike."""
    apart = np.abs(answers - answers[row]).mean(axis=1)
    return np.where(labels == labels[row], np.where(np.isnan(apart), NOVEL, apart), OTHER_CLASS)


def _half_at(width: float, distance: np.ndarray) -> np.ndarray:
    """1 at no distance, one half at `width`, 0 far away."""
    return 1 / (1 + (distance / width) ** 2)
