"""DiffusionNFT: learns from clean images and their rewards with the forward process alone, pulled by what is good and
pushed by what is not."""

from __future__ import annotations

import torch

from training.objectives.denoising import per_sample_error


def nft_loss(
    output: torch.Tensor,
    old: torch.Tensor,
    wanted: torch.Tensor,
    rewards: torch.Tensor,
    *,
    beta: float,
) -> torch.Tensor:
    """E[ r·‖(1-β)·old + β·new - wanted‖² + (1-r)·‖(1+β)·old - β·new - wanted‖² ] (Zheng et al. 2025, arXiv 2509.16117,
    eq. 8).

    The paper is about velocities. Nothing in it needs more than that `old` predicts the mean of its target: with
    δ = wanted - old and d = new - old the derivative is 2β·(β·d - E[(2r-1)·δ]), and E[δ] = 0, so the optimum is
    d = (2/β)·E[r·δ], the direction from what was drawn to what was rewarded. So ε-, v- and clean-image prediction all
    do, each in its own unit.

    Args:
        output, old: outputs of the model, and of the version that drew the images, for their noised latents
            [N, C, h, w].
        wanted: the denoising target, [N, C, h, w].
        rewards: probabilities of being good in [0, 1], [N].
        beta: β; a smaller one moves further from the old version.
    """
    good = (1 - beta) * old + beta * output
    bad = (1 + beta) * old - beta * output
    return (rewards * per_sample_error(good, wanted) + (1 - rewards) * per_sample_error(bad, wanted)).mean()


def normalised(rewards: torch.Tensor, groups: torch.Tensor, spread: float) -> torch.Tensor:
    """Rewards [N] as probabilities around 0.5 within their group [N] (of one prompt), so that an easy class teaches as
    much as a hard one: 0.5 + 0.5·clip((r - mean) / spread, ±1) (same paper, eq. 9)."""
    mean = torch.bincount(groups, rewards) / torch.bincount(groups).clamp(min=1)
    return 0.5 + 0.5 * ((rewards - mean[groups]) / spread).clamp(-1, 1).float()
