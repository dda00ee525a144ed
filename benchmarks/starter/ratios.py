"""A rate as a share of another, with its interval."""

from __future__ import annotations

import numpy as np

from benchmarks.report import Figure
from training.evaluation.intervals import Estimate, percentiles

ROUNDS = 2000


def ratio(above: np.ndarray, below: np.ndarray, *, paired: bool = False) -> Estimate:
    """The mean of `above` [N] ÷ the mean of `below` [M], both resampled; paired: rows of both are of one image."""
    random, found = np.random.default_rng(0), []
    for _ in range(ROUNDS):
        rows = random.integers(0, len(above), len(above))
        others = rows if paired else random.integers(0, len(below), len(below))
        found.append(above[rows].mean() / max(below[others].mean(), 1e-9))
    return Estimate(float(above.mean() / max(below.mean(), 1e-9)), *percentiles(found))


def figure(
    estimate: Estimate, unit: str = "share", must: str | None = None, aim: str | None = None
) -> Figure:
    return Figure(estimate.value, unit, estimate.low, estimate.high, must, aim)
