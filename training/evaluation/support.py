"""α-precision and β-recall: how typical the generated images are of real ones, and how much of the real they reach.

Alaa et al. 2022 (arXiv 2102.08921). Each image gets the level at which it counts; a curve is the share of images that
count at each level, and resampled images give the interval of whatever is made of it.
"""

from __future__ import annotations

import numpy as np
from sklearn.neighbors import NearestNeighbors

LEVELS = np.linspace(0.0, 1.0, 41)
NEAREST = 5


def precision_levels(real: np.ndarray, generated: np.ndarray) -> np.ndarray:
    """Of each generated image [M, D] the α whose ball about the mean of the real ones [N, D] it lies on (eq. 4): the
    share of real images that are more typical than it is, and 1.01 for what is odder than all. [M]"""
    centre = real.mean(0)
    radii = np.sort(_distance(real, centre))
    levels = np.searchsorted(radii, _distance(generated, centre)) / len(radii)
    return np.where(levels >= 1, 1.01, levels)


def recall_levels(real: np.ndarray, generated: np.ndarray, nearest: int = NEAREST) -> np.ndarray:
    """Of each real image the smallest β so that one of the β most typical generated images is nearer than its own
    `nearest`-th real neighbour (eq. 5); 1.01 where none is. [N]"""
    level = typicality(generated)
    reach = NearestNeighbors(n_neighbors=nearest + 1).fit(real).kneighbors(real)[0][:, -1]
    near = NearestNeighbors().fit(generated)
    inside = (
        near.radius_neighbors(real[i : i + 1], reach[i], return_distance=False)[0] for i in range(len(real))
    )
    return np.array([level[rows].min() if len(rows) else 1.01 for rows in inside])


def typicality(points: np.ndarray) -> np.ndarray:
    """The share of `points` [N, D] that are nearer to their mean than each of them: [N]."""
    return np.argsort(np.argsort(_distance(points, points.mean(0)))) / len(points)


def curve(levels: np.ndarray, at: np.ndarray = LEVELS) -> np.ndarray:
    """The share of images that count at each level."""
    return np.searchsorted(np.sort(levels), at, side="right") / len(levels)


def integrated(levels: np.ndarray) -> float:
    """1 - 2·∫|curve - level|: 1 where the curve is the diagonal throughout (eq. 6)."""
    away = np.abs(curve(levels) - LEVELS)
    return float(1 - 2 * ((away[1:] + away[:-1]) / 2 * np.diff(LEVELS)).sum())


def _distance(points: np.ndarray, centre: np.ndarray) -> np.ndarray:
    return np.asarray(np.linalg.norm(points - centre, axis=1))
