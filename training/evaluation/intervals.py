"""Confidence intervals."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

Z95 = 1.959963984540054


@dataclass(frozen=True)
class Figure:
    """A measured value with its 95 % interval."""

    value: float
    low: float
    high: float


def wilson(passed: int, total: int) -> Figure:
    """A share with the interval of Wilson (1927), which stays inside [0, 1] and holds at the ends."""
    if total == 0:
        return Figure(math.nan, 0.0, 1.0)
    share, z2 = passed / total, Z95**2
    middle = (share + z2 / (2 * total)) / (1 + z2 / total)
    half = Z95 / (1 + z2 / total) * math.sqrt(share * (1 - share) / total + z2 / (4 * total**2))
    # Rounding must not put the end of an interval on the wrong side of a share of 0 or 1.
    return Figure(share, min(share, max(0.0, middle - half)), max(share, min(1.0, middle + half)))


def bootstrap(
    rows: np.ndarray, figure: Callable[[np.ndarray], float], *, draws: int = 200, seed: int = 0
) -> Figure:
    """`figure` of `rows` [N, ...] with the percentile interval over resampled rows (Efron 1979)."""
    rng = np.random.default_rng(seed)
    values = [figure(rows[rng.integers(0, len(rows), len(rows))]) for _ in range(draws)]
    low, high = np.percentile(values, [2.5, 97.5])
    return Figure(figure(rows), float(low), float(high))
