"""How many generated images are worse than nearly all real ones."""

from __future__ import annotations

import numpy as np

from training.evaluation.intervals import Estimate, rate

REAL_SHARE = 0.05


def tail(real_scores: np.ndarray, scores: np.ndarray) -> Estimate:
    """Share of `scores` [N] below the 5th percentile of those of real images (CRAFT, arXiv 2605.12650), with Wilson's
    interval. Images of the same distribution have 0.05."""
    limit = np.quantile(real_scores, REAL_SHARE)
    return rate(int((scores < limit).sum()), len(scores))
