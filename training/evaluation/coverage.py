"""How much of the real variety the generated images reach."""

from __future__ import annotations

import contextlib
import io

import numpy as np
from prdc import compute_prdc
from sklearn.metrics import pairwise_distances
from sklearn.neighbors import NearestNeighbors

from training.evaluation.intervals import Estimate, bootstrapped

NEAREST = 5


def coverage(real: np.ndarray, generated: np.ndarray, nearest: int = NEAREST) -> dict[str, float]:
    """Precision, recall, density and coverage (Naeem et al. 2020, arXiv 2002.09797) of features [N, D] and [M, D].

    Coverage is the share of real images with a generated one nearer than their own `nearest`-th real neighbour. Two
    samples of one distribution do not score 1: report the figure of real against real beside it.
    """
    with contextlib.redirect_stdout(io.StringIO()):  # the package prints its sizes
        prdc = compute_prdc(real.astype(np.float32), generated.astype(np.float32), nearest_k=nearest)
    return {name: float(value) for name, value in prdc.items()}


def covered(real: np.ndarray, generated: np.ndarray, nearest: int = NEAREST) -> np.ndarray:
    """Which of the real images each generated one covers: bool [N, M] of features [N, D] and [M, D]. Coverage is the
    share of rows with any."""
    apart: np.ndarray = pairwise_distances(real, generated)
    return apart < _radius(real, nearest)[:, None]


def density(real: np.ndarray, generated: np.ndarray, nearest: int = NEAREST) -> Estimate:
    """Density with the interval of resampled generated images: each counts the real ones, ÷ `nearest`, whose
    neighbourhood it lies in."""
    within = covered(real, generated, nearest).sum(0)
    return bootstrapped(within / nearest, lambda rows: float(rows.mean()))


def _radius(real: np.ndarray, nearest: int) -> np.ndarray:
    """The distance [N] of each real image to its `nearest`-th real neighbour."""
    distances: np.ndarray = NearestNeighbors(n_neighbors=nearest + 1).fit(real).kneighbors(real)[0]
    return distances[:, -1]
