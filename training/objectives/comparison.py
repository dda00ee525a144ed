"""The loss of the reward model on pairs."""

from __future__ import annotations

import torch
from torch.nn import functional as F


def bradley_terry(first: torch.Tensor, second: torch.Tensor, preferred: torch.Tensor) -> torch.Tensor:
    """-log σ(s₁ - s₂) of the preferred one (Bradley & Terry 1952), a tie being one half of each.

    Args:
        first, second: logits of the two images, [N].
        preferred: 1 where the first was, 0 where the second was, 0.5 for a tie, [N]. No pairs cost nothing.
    """
    if not len(preferred):
        return first.sum()
    return F.binary_cross_entropy_with_logits(first - second, preferred)
