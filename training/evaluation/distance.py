"""How far the distribution of generated images is from that of real ones, in the features of a domain network."""

from __future__ import annotations

import numpy as np
import torch
from torch import nn
from torchmetrics.image.fid import FrechetInceptionDistance
from torchmetrics.image.kid import KernelInceptionDistance

from training.evaluation.intervals import Z95, Estimate

SUBSETS, SUBSET_SIZE = 100, 200
GROUPS = 10


class _Given(nn.Module):
    """In the place of a feature network: what comes in are features already."""

    def __init__(self, num_features: int) -> None:
        super().__init__()
        self.num_features = num_features

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        return features


def kid(real: np.ndarray, generated: np.ndarray, *, seed: int = 0) -> Estimate:
    """Kernel distance (Binkowski et al. 2018, arXiv 1801.01401) of features [N, D] and [M, D]: near 0 for one
    distribution, whatever the number of images. The interval is that of its random subsets' mean."""
    size = min(SUBSET_SIZE, len(real), len(generated))
    metric = KernelInceptionDistance(_Given(real.shape[1]), subsets=SUBSETS, subset_size=size)
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        _fill(metric, real, generated)
        mean, deviation = (float(value) for value in metric.compute())
    half = Z95 * deviation / SUBSETS**0.5
    return Estimate(mean, mean - half, mean + half)


def frechet(real: np.ndarray, generated: np.ndarray) -> Estimate:
    """Frechet distance (Heusel et al. 2017, arXiv 1706.08500, eq. 6) of features [N, D] and [M, D]; biased upward below
    some thousand images, so to be compared only between sets of one size.

    The interval is the jackknife's over groups of generated images: resampled ones, with repeats, would look like
    fewer.
    """
    value = _frechet(real, generated)
    order = np.random.default_rng(0).permutation(len(generated))
    parts = [np.setdiff1d(order, order[group::GROUPS]) for group in range(GROUPS)]
    without = np.array([_frechet(real, generated[rows]) for rows in parts if len(rows) > 1])
    half = Z95 * float(np.sqrt((GROUPS - 1) / GROUPS * ((without - without.mean()) ** 2).sum()))
    return Estimate(value, max(0.0, value - half), value + half)


def _frechet(real: np.ndarray, generated: np.ndarray) -> float:
    metric = FrechetInceptionDistance(_Given(real.shape[1]))
    _fill(metric, real, generated)
    return float(metric.compute())


def _fill(metric: nn.Module, real: np.ndarray, generated: np.ndarray) -> None:
    metric.update(torch.from_numpy(real).double(), real=True)
    metric.update(torch.from_numpy(generated).double(), real=False)
