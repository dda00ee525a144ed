"""Diffusion-KTO: learns from single verdicts, without a reward model."""

from __future__ import annotations

import torch


def kto_loss(
    error: torch.Tensor,
    reference_error: torch.Tensor,
    desirable: torch.Tensor,
    *,
    beta: float,
    weight: torch.Tensor | None = None,
) -> torch.Tensor:
    """E[ w·(1 - σ(±(r - z₀))) ] with r = β·(error of the parent - error): plus for what raters found plausible, minus
    for the rest (Li et al. 2024, arXiv 2404.04465, eq. 9; Ethayarajh et al. 2024, arXiv 2402.01306).

    What is already far on its right side of z₀, the batch's mean r but no less than 0, pulls no more: gains and losses
    both saturate.

    Args:
        error, reference_error: denoising errors of model and parent on the same noised images, [N].
        desirable: bool [N].
        beta: how far from the parent it may go, smaller being further; includes the number of timesteps.
        weight: w [N], how sure the raters are of each verdict (`certainty`); None: all the same.
    """
    gain = beta * (reference_error - error)
    point = gain.mean().clamp(min=0).detach()
    signed = torch.where(desirable, gain - point, point - gain)
    loss = 1 - signed.sigmoid()
    return (loss if weight is None else weight * loss).mean()


def certainty(probability: torch.Tensor) -> torch.Tensor:
    """|2p - 1| of verdicts [N]: by how much it is likelier that a verdict is right than that it is wrong. An expected
    loss over both possible verdicts moves the model by this much."""
    return (2 * probability - 1).abs()
