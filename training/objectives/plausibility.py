"""The loss of the reward model."""

from __future__ import annotations

import torch
from torch.nn import functional as F


def masked_cross_entropy(logits: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
    """Binary cross-entropy over the known targets: the verdict counts as much as all criteria together.

    Args:
        logits: [N, 1 + C], the overall verdict first.
        targets: [N, 1 + C] in [0, 1]; nan where a rater left the question open.
    """
    known = ~targets.isnan()
    each = F.binary_cross_entropy_with_logits(logits, targets.nan_to_num(), reduction="none") * known
    verdict = each[:, 0].sum() / known[:, 0].sum().clamp(min=1)
    criteria = each[:, 1:].sum() / known[:, 1:].sum().clamp(min=1)
    return verdict + criteria
