"""Whether a version reaches more or less of the real variety than another, pair by pair."""

from __future__ import annotations

from collections.abc import Hashable, Sequence

import numpy as np
from sklearn.metrics import pairwise_distances
from sklearn.neighbors import NearestNeighbors

from training.evaluation import support
from training.evaluation.intervals import Estimate, percentiles, resamples

BEYOND = 1.01
"""The level of a real image that no generated one reaches."""
ROUNDS = 200


def reach_levels(real: np.ndarray, generated: np.ndarray, nearest: int = support.NEAREST) -> np.ndarray:
    """For each real image and each generated one that lies nearer to it than its own `nearest`-th real neighbour, how
    typical that one is of the generated: 0 the most; `BEYOND` for those further away. float32 [N, M].

    The least of a row is that real image's level of β-recall; it is covered where any lies below `BEYOND`.
    """
    radius = NearestNeighbors(n_neighbors=nearest + 1).fit(real).kneighbors(real)[0][:, -1]
    within = pairwise_distances(real, generated) < radius[:, None]
    return np.where(within, support.typicality(generated)[None], BEYOND).astype(np.float32)


def changes_of_reach(
    real: np.ndarray, ours: np.ndarray, theirs: np.ndarray, groups: Sequence[Hashable] | None = None
) -> dict[str, Estimate]:
    """What `ours` [M, D] cover more than `theirs` [M, D], which were drawn from the same prompts and seeds.

    Real images, whole patients where `groups` says whose each is, and pairs are resampled. Fewer different images cover
    less, on both sides alike, so the interval is that of the deviations from the rounds' mean.
    """
    levels = [reach_levels(real, generated) for generated in (ours, theirs)]
    value, random, resampled = _change(levels), np.random.default_rng(0), []
    for rows in resamples(len(real), groups, ROUNDS, random):
        columns = np.unique(random.integers(0, len(ours), len(ours)))
        resampled.append(_change([side[:, columns] for side in levels], rows))
    deviations = np.array(resampled) - np.mean(resampled, axis=0)
    changes = {}
    for place, name in enumerate(("coverage", "beta recall")):
        low, high = percentiles(deviations[:, place])
        changes[name] = Estimate(value[place], value[place] + low, value[place] + high)
    return changes


def _change(levels: list[np.ndarray], rows: np.ndarray | slice = slice(None)) -> tuple[float, float]:
    ours, theirs = (side.min(1)[rows] for side in levels)
    covered = float((ours < BEYOND).mean() - (theirs < BEYOND).mean())
    return covered, support.integrated(ours) - support.integrated(theirs)
