"""How many generated images are worse than nearly all real ones."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from training.evaluation.intervals import Estimate, rate

REAL_SHARE = 0.05


def tail(
    real_scores: np.ndarray, real_labels: Sequence[str], scores: np.ndarray, labels: Sequence[str]
) -> Estimate:
    """Share of `scores` [N] below the 5th percentile of those of real images [U] of their class (CRAFT, arXiv
    2605.12650), with Wilson's interval. Images of the same distribution have 0.05, in whatever proportions the classes
    come.

    Images of a class without real ones do not count.
    """
    limits, names = limits_of(real_scores, real_labels), np.array(labels)
    below = [scores[names == label] < limit for label, limit in limits.items()]
    return rate(int(sum(part.sum() for part in below)), sum(map(len, below)))


def limits_of(scores: np.ndarray, labels: Sequence[str]) -> dict[str, float]:
    """Each class's 5th percentile."""
    names = np.array(labels)
    # Of n values another one lies below the k-th with probability k / (n + 1): Weibull's positions hit the share
    # wherever 19 values or more are there, where numpy's own are too high for few.
    return {
        label: float(np.quantile(scores[names == label], REAL_SHARE, method="weibull"))
        for label in sorted(set(labels))
    }
