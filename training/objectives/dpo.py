"""Diffusion-DPO: learns from pairs of which one was preferred, without a reward model."""

from __future__ import annotations

import torch
from torch.nn import functional as F


def dpo_loss(
    better: torch.Tensor,
    better_reference: torch.Tensor,
    worse: torch.Tensor,
    worse_reference: torch.Tensor,
    *,
    beta: float,
    weight: torch.Tensor | None = None,
) -> torch.Tensor:
    """-w·log σ( -β·[ (e_w - e_w^ref) - (e_l - e_l^ref) ] ), e being denoising errors (Wallace et al. 2023, arXiv
    2311.12908, eq. 14).

    Args:
        better, better_reference: errors of model and parent on the preferred images, [N].
        worse, worse_reference: on the others, noised with the same noise to the same timesteps, [N].
        beta: how far from the parent it may go, smaller being further; the paper's β·T·ω(λ).
        weight: w [N], the probability that the pair is in the right order less that of the other order; None: 1.
    """
    moved = (better - better_reference) - (worse - worse_reference)
    loss = -F.logsigmoid(-beta * moved)
    return (loss if weight is None else weight * loss).mean()
