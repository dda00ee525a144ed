"""Diffusion-KTO: learns from single verdicts, without a reward model."""

from __future__ import annotations

import torch


def kto_loss(
    error: torch.Tensor,
    reference_error: torch.Tensor,
    desirable: torch.Tensor,
    *,
    beta: float,
    undesirable_weight: float = 1.0,
) -> torch.Tensor:
    """E[ w·(1 - σ(±(r - z₀))) ] with r = β·(error of the parent - error): plus for what raters found plausible, minus
    for the rest (Li et al. 2024, arXiv 2404.04465, eq. 9; Ethayarajh et al. 2024, arXiv 2402.01306).

    What is already far on its right side of z₀, the batch's mean r but no less than 0, pulls no more: gains and losses
    both saturate.

    Args:
        error, reference_error: denoising errors of model and parent on the same noised images, [N].
        desirable: bool [N].
        beta: how far from the parent it may go, smaller being further; includes the number of timesteps.
        undesirable_weight: of what was found implausible, where there is more or less of it.
    """
    gain = beta * (reference_error - error)
    point = gain.mean().clamp(min=0).detach()
    signed = torch.where(desirable, gain - point, point - gain)
    weight = torch.where(desirable, 1.0, undesirable_weight)
    return (weight * (1 - signed.sigmoid())).mean()
