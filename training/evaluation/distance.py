"""How far the distribution of generated images is from that of real ones, in the features of a domain network."""

from __future__ import annotations

import math
from collections.abc import Callable, Hashable, Sequence
from functools import partial

import numpy as np
import torch
from torch import nn
from torchmetrics.image.fid import FrechetInceptionDistance
from torchmetrics.image.kid import KernelInceptionDistance

from training.evaluation.intervals import Z95, Estimate

SUBSETS, SUBSET_SIZE = 100, 200
BLOCKS = 10


class _Given(nn.Module):
    """In the place of a feature network: what comes in are features already."""

    def __init__(self, num_features: int) -> None:
        super().__init__()
        self.num_features = num_features

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        return features


Patients = Sequence[Hashable] | None
"""Whose each real image is; they stay together where intervals are made. None: each image stands for itself."""


def kid(real: np.ndarray, generated: np.ndarray, patients: Patients = None, *, seed: int = 0) -> Estimate:
    """Kernel distance (Binkowski et al. 2018, arXiv 1801.01401) of features [N, D] and [M, D]: near 0 for one
    distribution, whatever the number of images."""
    return _jackknifed(real, generated, partial(_kernel, seed=seed), patients)


def frechet(real: np.ndarray, generated: np.ndarray, patients: Patients = None) -> Estimate:
    """Frechet distance (Heusel et al. 2017, arXiv 1706.08500, eq. 6) of features [N, D] and [M, D]; biased upward below
    some thousand images, so to be compared only between sets of one size."""
    return _jackknifed(real, generated, _frechet, patients)


def _jackknifed(
    real: np.ndarray,
    generated: np.ndarray,
    figure: Callable[[np.ndarray, np.ndarray], float],
    patients: Patients,
) -> Estimate:
    """`figure` with the interval of the jackknife over blocks of both: resampled images, with repeats, would look like
    fewer and nearer ones."""
    value, blocks = figure(real, generated), min(BLOCKS, len(generated) // 2)
    if blocks < 2:
        return Estimate(value, math.nan, math.nan)
    sides = [_leaving_out(real, blocks, patients), _leaving_out(generated, blocks, None)]
    without = np.array([figure(*pair) for pair in zip(*sides, strict=True)])
    half = Z95 * float(np.sqrt((blocks - 1) / blocks * ((without - without.mean()) ** 2).sum()))
    return Estimate(value, value - half, value + half)


def _leaving_out(rows: np.ndarray, blocks: int, patients: Patients) -> list[np.ndarray]:
    """The rows without each of so many random blocks; a patient's rows are in one block."""
    names: Sequence[Hashable] = range(len(rows)) if patients is None else patients
    unique = list(dict.fromkeys(names))
    order = np.random.default_rng(0).permutation(len(unique))
    block = {unique[place]: number % blocks for number, place in enumerate(order)}
    of_rows = np.array([block[name] for name in names])
    return [rows[of_rows != number] for number in range(blocks)]


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
