"""95 % intervals: Wilson's for a rate, the bootstrap for everything else."""

from __future__ import annotations

import math
from collections.abc import Callable, Hashable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

Z95 = 1.959963984540054  # the normal quantile of 97.5 %


def wilson(successes: int, trials: int) -> tuple[float, float]:
    """The Wilson score interval of a rate; (0, 1) when nothing was tried."""
    if not 0 <= successes <= trials:
        raise ValueError(f"{successes} successes of {trials} trials is impossible")
    if trials == 0:
        return 0.0, 1.0
    rate, spread = successes / trials, Z95**2 / trials
    middle = (rate + spread / 2) / (1 + spread)
    half = Z95 * math.sqrt(rate * (1 - rate) / trials + spread / (4 * trials)) / (1 + spread)
    # at the ends rounding would miss by one unit in the last place
    low = 0.0 if successes == 0 else max(0.0, middle - half)
    high = 1.0 if successes == trials else min(1.0, middle + half)
    return low, high


def bootstrap(
    samples: ArrayLike,
    statistic: Callable[[np.ndarray], float] = np.median,
    *,
    rounds: int = 2000,
    seed: int = 0,
    groups: Sequence[Hashable] | None = None,
) -> tuple[float, float]:
    """The percentile interval of `statistic` over resampled rows of `samples` (the first axis).

    groups: whose row each is, such as its patient; groups are then resampled as wholes (cluster bootstrap), for rows of
    one group are no independent samples.
    """
    rows = np.asarray(samples)
    if len(rows) == 0:
        raise ValueError("an interval needs at least one sample")
    random = np.random.default_rng(seed)
    return percentiles(
        [float(statistic(rows[chosen])) for chosen in resamples(len(rows), groups, rounds, random)]
    )


def resamples(
    count: int, groups: Sequence[Hashable] | None, rounds: int, random: np.random.Generator
) -> Iterator[np.ndarray]:
    """Indices of the rows of each resample: as many rows, or as many whole groups, drawn with repeats."""
    if groups is None or len(set(groups)) == count:
        yield from random.integers(0, count, (rounds, count))
        return
    members: dict[Hashable, list[int]] = {}
    for row, group in enumerate(groups):
        members.setdefault(group, []).append(row)
    parts = [np.array(part) for part in members.values()]
    for chosen in random.integers(0, len(parts), (rounds, len(parts))):
        yield np.concatenate([parts[one] for one in chosen])


def bootstrap_two_way(
    samples: ArrayLike,
    statistic: Callable[[np.ndarray], float] = np.mean,
    *,
    rounds: int = 2000,
    seed: int = 0,
) -> tuple[float, float]:
    """The percentile interval of `statistic` of a table [S, N], rows and columns resampled: runs of S training seeds,
    all judged on the same N prompts. One row alone is kept as it is."""
    table, random = np.asarray(samples), np.random.default_rng(seed)
    values = []
    for _ in range(rounds):
        rows, columns = (random.integers(0, size, size) for size in table.shape)
        values.append(float(statistic(table[np.ix_(rows, columns)])))
    return percentiles(values)


def bootstrap_ratio(
    above: Sequence[ArrayLike],
    below: Sequence[ArrayLike],
    statistic: Callable[[np.ndarray], float],
    *,
    rounds: int = 2000,
    seed: int = 0,
) -> tuple[float, float]:
    """The interval of statistic(above) / statistic(below), each a list of windows, resampled as wholes.

    Requests of one window wait for the same things: resampling single requests would claim too narrow an
    interval.
    """
    upper = [window for window in map(np.asarray, above) if len(window)]
    lower = [window for window in map(np.asarray, below) if len(window)]
    if not upper or not lower:
        raise ValueError("a ratio needs at least one window with samples on each side")
    random = np.random.default_rng(seed)

    def resampled(windows: list[np.ndarray]) -> float:
        chosen = random.integers(0, len(windows), len(windows))
        return float(statistic(np.concatenate([windows[i] for i in chosen])))

    return percentiles([resampled(upper) / resampled(lower) for _ in range(rounds)])


def percentiles(values: ArrayLike) -> tuple[float, float]:
    """The bounds that 95 % of `values` lie between."""
    low, high = np.percentile(np.asarray(values), [2.5, 97.5])
    return float(low), float(high)


@dataclass(frozen=True)
class Estimate:
    """A measured value with its 95 % interval."""

    value: float
    low: float
    high: float


def rate(passed: int, total: int) -> Estimate:
    """A share with Wilson's interval; nan of nothing."""
    return Estimate(passed / total if total else math.nan, *wilson(passed, total))


def bootstrapped(
    rows: np.ndarray,
    statistic: Callable[[np.ndarray], float],
    *,
    rounds: int = 200,
    groups: Sequence[Hashable] | None = None,
) -> Estimate:
    """`statistic` of `rows` [N, ...] with the bootstrap's interval; groups as of `bootstrap`."""
    return Estimate(float(statistic(rows)), *bootstrap(rows, statistic, rounds=rounds, groups=groups))


def share(passed: ArrayLike, groups: Sequence[Hashable] | None = None) -> Estimate:
    """The share of bool [N] with Wilson's interval, or that of resampled groups where several rows are of one
    patient."""
    passed = np.asarray(passed)
    if groups is None or len(set(groups)) == len(passed):
        return rate(int(passed.sum()), len(passed))
    return bootstrapped(passed.astype(float), lambda rows: float(rows.mean()), groups=groups)
