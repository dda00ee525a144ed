"""Is it new, or a training image again?"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from sklearn.neighbors import NearestNeighbors

from training.evaluation.intervals import Estimate, rate

AROUND = 50
FALSE_ALARMS = 0.01
"""How often an unseen real image may be called a copy: what the alarm's distance is calibrated on."""


@dataclass(frozen=True)
class Nearest:
    """Of each of N images its nearest training image: which one [N], how far away [N], and how much nearer than others.

    `relative` [N] is that distance ÷ the mean one to the AROUND nearest: small where one training image stands out, and
    not where all lie close together (after Carlini et al. 2023, arXiv 2301.13188).
    """

    index: np.ndarray
    distance: np.ndarray
    relative: np.ndarray


@dataclass(frozen=True)
class Copies:
    """Which images are relatively nearer to a training image than `limit`: bool [N]. Only FALSE_ALARMS of unseen real
    ones are."""

    limit: float
    alarmed: np.ndarray


def nearest(train: np.ndarray, images: np.ndarray) -> Nearest:
    """By features [T, D] and [N, D]."""
    distance, index = NearestNeighbors(n_neighbors=min(AROUND, len(train))).fit(train).kneighbors(images)
    mean = np.maximum(distance.mean(1), np.finfo(distance.dtype).tiny)
    return Nearest(index[:, 0], distance[:, 0], distance[:, 0] / mean)


def authentic(train: np.ndarray, images: np.ndarray) -> np.ndarray:
    """Whether each image is further from its nearest training image than that one is from its own nearest neighbour
    among the others (Alaa et al. 2022, arXiv 2102.08921, section 3.3): bool [N]."""
    found = nearest(train, images)
    distance, _ = NearestNeighbors(n_neighbors=2).fit(train).kneighbors(train)
    return np.asarray(found.distance > distance[found.index, 1])


def copies(train: np.ndarray, unseen: np.ndarray, images: np.ndarray) -> Copies:
    """Alarms for images [N, D], calibrated on real ones [U, D] that are not in `train`."""
    limit = float(np.quantile(nearest(train, unseen).relative, FALSE_ALARMS))
    return Copies(limit, nearest(train, images).relative < limit)


def false_alarms(train: np.ndarray, unseen: np.ndarray) -> Estimate:
    """How often the alarm goes off for real images that did not set its limit: each half is judged by the other's."""
    order = np.random.default_rng(0).permutation(len(unseen))
    halves = unseen[order[: len(order) // 2]], unseen[order[len(order) // 2 :]]
    alarms = [copies(train, *sides).alarmed for sides in (halves, halves[::-1])]
    return rate(int(np.concatenate(alarms).sum()), len(unseen))
