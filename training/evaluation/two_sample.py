"""Two-sample tests: can a classifier tell generated images from real ones (Lopez-Paz and Oquab 2017, arXiv 1610.06545)?

An AUC of 0.5 is what two samples of one distribution have, 1.0 what a single difference in every image gives.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import StratifiedKFold
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from torch import nn
from torch.nn import functional as F

from training.data.augmentation import dihedral, to_unit
from training.evaluation.intervals import Estimate, percentiles
from training.randomness import tensors
from vouch.models.networks.backbone import Backbone

FOLDS = 5
REGULARISATION = 0.01
"""C of scikit-learn: more features than images need a strong penalty."""
ROUNDS = 500
WIDTHS = (16, 32, 64)
BATCH = 64

Fold = tuple[np.ndarray, np.ndarray]
"""Scores of held-out real and generated images; higher: taken for generated."""


def two_sample_auc(real: np.ndarray, generated: np.ndarray, *, seed: int = 0) -> Estimate:
    """Of a logistic regression on features [N, D] and [M, D], cross-validated. Resampled images give the interval.

    AUCs are of single folds and averaged: scores of two folds have different offsets, and pooled ones fall below 0.5
    for samples of one distribution.
    """
    rows, fake = np.concatenate([real, generated]), np.repeat([False, True], [len(real), len(generated)])
    folds = []
    for train, held in StratifiedKFold(FOLDS, shuffle=True, random_state=seed).split(rows, fake):
        model = make_pipeline(StandardScaler(), LogisticRegression(C=REGULARISATION, max_iter=300))
        scores = model.fit(rows[train], fake[train]).decision_function(rows[held])
        folds.append((scores[~fake[held]], scores[fake[held]]))
    return _estimated(folds)


def two_sample_auc_by_network(
    real: np.ndarray, generated: np.ndarray, *, steps: int = 150, symmetric: bool = True, seed: int = 0
) -> Estimate:
    """Of a small convolutional network trained anew on uint8 images [N, S, S, 3]: half of either side teaches it, and
    the AUC is that of the other half. symmetric: whether flips and quarter turns show the same thing."""
    order = [np.random.default_rng(seed).permutation(len(side)) for side in (real, generated)]
    sides = [_tensor(side[rows]) for side, rows in zip((real, generated), order, strict=True)]
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        net = nn.Sequential(Backbone(WIDTHS), nn.Linear(WIDTHS[-1], 1)).to(memory_format=torch.channels_last)
    _teach(net, [side[: len(side) // 2] for side in sides], steps, symmetric, seed)
    held = tuple(_scores(net, side[len(side) // 2 :]) for side in sides)
    return _estimated([held])


def _teach(net: nn.Module, sides: Sequence[torch.Tensor], steps: int, symmetric: bool, seed: int) -> None:
    """Half of every batch is real. Turns and weight decay keep it from learning few images by heart."""
    optimizer = torch.optim.AdamW(net.parameters(), lr=2e-3, weight_decay=0.05)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 2e-3, total_steps=steps + 1)
    wanted = torch.arange(2.0).repeat_interleave(BATCH // 2)
    for step in range(steps):
        random = tensors(seed, "two-sample", step)
        images = torch.cat(
            [side[torch.randint(0, len(side), (BATCH // 2,), generator=random)] for side in sides]
        )
        images = dihedral(images, random) if symmetric else images
        loss = F.binary_cross_entropy_with_logits(net(to_unit(images))[:, 0], wanted)
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        optimizer.step()
        schedule.step()


@torch.inference_mode()
def _scores(net: nn.Module, images: torch.Tensor) -> np.ndarray:
    net.eval()
    parts = [net(to_unit(images[start : start + BATCH]))[:, 0] for start in range(0, len(images), BATCH)]
    return torch.cat(parts).numpy()


def _tensor(images: np.ndarray) -> torch.Tensor:
    return torch.from_numpy(np.ascontiguousarray(images)).permute(0, 3, 1, 2).contiguous()


def _estimated(folds: Sequence[Fold]) -> Estimate:
    random = np.random.default_rng(0)
    wins = [_wins(*fold) for fold in folds]
    resampled = [float(np.mean([_resampled(one, random) for one in wins])) for _ in range(ROUNDS)]
    return Estimate(float(np.mean([one.mean() for one in wins])), *percentiles(resampled))


def _wins(real: np.ndarray, generated: np.ndarray) -> np.ndarray:
    """For each pair [N, M] whether the generated image has the higher score; a tie counts half."""
    apart = generated[None] - real[:, None]
    return np.asarray((np.sign(apart) + 1) / 2, np.float32)


def _resampled(wins: np.ndarray, random: np.random.Generator) -> float:
    real, generated = (
        np.bincount(random.integers(0, size, size), minlength=size).astype(np.float32) for size in wins.shape
    )
    return float(real @ wins @ generated / wins.size)
