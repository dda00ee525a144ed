"""DDPO: policy gradients on the steps of a sampler, for any reward."""

from __future__ import annotations

import math

import torch


def advantages(rewards: torch.Tensor, groups: torch.Tensor) -> torch.Tensor:
    """Rewards [N] less their group's mean, in its standard deviations: what was better than usual for its prompt."""
    gains = torch.zeros_like(rewards)
    for group in groups.unique():
        rows = groups == group
        deviation = rewards[rows].std(unbiased=False)
        gains[rows] = (rewards[rows] - rewards[rows].mean()) / (deviation + 1e-6)
    return gains


def log_probability(after: torch.Tensor, mean: torch.Tensor, deviation: torch.Tensor) -> torch.Tensor:
    """log N(taken; mean, deviation²) of each step, the mean over its dimensions: [N, C, h, w] to [N]."""
    scale = deviation.view(-1, 1, 1, 1)
    each = -((after - mean) ** 2) / (2 * scale**2) - scale.log() - 0.5 * math.log(2 * math.pi)
    return each.flatten(1).mean(1)


def ddpo_loss(log_probability: torch.Tensor, advantages: torch.Tensor) -> torch.Tensor:
    """-E[ A·log p ], the score function estimator (Black et al. 2023, arXiv 2305.13301, section 4.3).

    The model that is taught took the steps itself, so there is no ratio of probabilities to weigh or to clip.

    Args:
        log_probability: of the steps taken, by the model that took them, [N].
        advantages: of the images that they led to, [N].
    """
    return -(advantages * log_probability).mean()
