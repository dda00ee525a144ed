"""How far the distribution of generated images is from that of real ones, in the features of a domain network."""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial

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
    distribution, whatever the number of images."""
    return _jackknifed(real, generated, partial(_kernel, seed=seed))


def frechet(real: np.ndarray, generated: np.ndarray) -> Estimate:
    """Frechet distance (Heusel et al. 2017, arXiv 1706.08500, eq. 6) of features [N, D] and [M, D]; biased upward below
    some thousand images, so to be compared only between sets of one size."""
    return _jackknifed(real, generated, _frechet)


def _jackknifed(
    real: np.ndarray, generated: np.ndarray, figure: Callable[[np.ndarray, np.ndarray], float]
) -> Estimate:
    """`figure` with the interval of the jackknife over groups of both: resampled images, with repeats, would look like
    fewer and nearer ones."""
    value, groups = figure(real, generated), min(GROUPS, len(generated) // 2)
    if groups < 2:
        return Estimate(value, math.nan, math.nan)
    sides = [_leaving_out(rows, groups) for rows in (real, generated)]
    without = np.array([figure(*pair) for pair in zip(*sides, strict=True)])
    half = Z95 * float(np.sqrt((groups - 1) / groups * ((without - without.mean()) ** 2).sum()))
    return Estimate(value, value - half, value + half)


def _leaving_out(rows: np.ndarray, groups: int) -> list[np.ndarray]:
    order = np.random.default_rng(0).permutation(len(rows))
    return [np.delete(rows, order[group::groups], axis=0) for group in range(groups)]


def _kernel(real: np.ndarray, generated: np.ndarray, *, seed: int) -> float:
    size = min(SUBSET_SIZE, len(real), len(generated))
    metric = KernelInceptionDistance(_Given(real.shape[1]), subsets=SUBSETS, subset_size=size)
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        _fill(metric, real, generated)
        return float(metric.compute()[0])


def _frechet(real: np.ndarray, generated: np.ndarray) -> float:
    metric = FrechetInceptionDistance(_Given(real.shape[1]))
    _fill(metric, real, generated)
    return float(metric.compute())


def _fill(metric: nn.Module, real: np.ndarray, generated: np.ndarray) -> None:
    metric.update(torch.from_numpy(real).double(), real=True)
    metric.update(torch.from_numpy(generated).double(), real=False)
