"""The reward's own gradient, through the predicted clean image."""

from __future__ import annotations

import torch
from torch.nn import functional as F


def conservative(logits: torch.Tensor, std_penalty: float) -> torch.Tensor:
    """Mean minus `std_penalty` standard deviations over the members: [K, N] to [N].

    Where the ensemble disagrees it knows little, and a fine-tune that goes there finds errors of the reward, not
    better images (Coste et al. 2023, arXiv 2310.02743).
    """
    return logits.mean(0) - std_penalty * logits.std(0, unbiased=False)


def reward_loss(logits: torch.Tensor, std_penalty: float) -> torch.Tensor:
    """-log σ(penalised reward) of the members' logits [K, N].

    Direct reward fine-tuning (Clark et al. 2023, arXiv 2309.17400; Xu et al. 2023, arXiv 2304.05977). The log-sigmoid
    lets go of images that are good already.
    """
    return -F.logsigmoid(conservative(logits, std_penalty)).mean()


def ddim_step(
    clean: torch.Tensor, noise: torch.Tensor, alphas_cumprod: torch.Tensor, previous: torch.Tensor
) -> torch.Tensor:
    """The deterministic DDIM update (Song et al., arXiv 2010.02502, eq. 12, η = 0) to timesteps [N]; -1 is clean."""
    alpha = torch.where(previous >= 0, alphas_cumprod[previous.clamp(min=0)], 1.0).view(-1, 1, 1, 1)
    return alpha.sqrt() * clean + (1.0 - alpha).sqrt() * noise
