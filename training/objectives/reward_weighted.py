"""Reward-weighted likelihood: paper 1's way of fine-tuning."""

from __future__ import annotations

import torch


def reward_weighted_loss(
    synthetic_error: torch.Tensor, rewards: torch.Tensor, real_error: torch.Tensor | None, beta: float = 0.3
) -> torch.Tensor:
    """L = E[ r(x_syn, c)·L_diff(x_syn, c) + β·L_diff(x_real, c) ] (Sun et al. 2023, arXiv 2306.12438, eq. 4).

    Args:
        synthetic_error: denoising error of the model's own earlier samples, [N].
        rewards: their rewards in [0, 1], [N].
        real_error: denoising error of real images, [M], or None where there is no real data set.
        beta: weight of the real-data anchor.
    """
    loss = (rewards * synthetic_error).mean()
    return loss if real_error is None else loss + beta * real_error.mean()
