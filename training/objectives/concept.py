"""What tells a sub-type from its class: pulled to images that are the concept, pushed from those that are not; and
what a drawing of it is worth."""

from __future__ import annotations

import torch
from torch.nn import functional as F

from training.objectives.denoising import per_sample_error

SURE = 1e-6
"""Logarithms of probabilities nearer to 0 than this have no logit."""


def concept_loss(
    output: torch.Tensor, old: torch.Tensor, wanted: torch.Tensor, yes: torch.Tensor, *, sharpness: float
) -> torch.Tensor:
    """s·E[ yes·‖old + d/s - wanted‖² + no·‖old - d/s - wanted‖² ], d = output - old: DiffusionNFT (arXiv 2509.16117,
    eq. 8, with β = 1/s) whose reward is to be the concept.

    With as many of either side, the optimum is output = old + s·(E[wanted | yes] - E[wanted | no]) / 2. Where `old` is
    the mean over the class, s = 1 is the mean over the concept, what denoising its images alone would learn; a larger s
    goes on in the direction that tells the concept from the class, as guidance does from no caption to one.

    Args:
        output, old: what the model says of noised latents with the concept's caption, and what its parent says of them
            with the class's, [N, C, h, w].
        wanted: the denoising target, [N, C, h, w].
        yes: which images are the concept, bool [N].
    """
    side = torch.where(yes, 1.0, -1.0).view(-1, 1, 1, 1)
    return sharpness * per_sample_error(old + side * (output - old) / sharpness, wanted).mean()


def both(plausible: torch.Tensor, concept: torch.Tensor, emphasis: float) -> torch.Tensor:
    """logit of σ(plausible)·σ(concept)^emphasis: that an image is a good one of its class and that it is the concept.

    A product, for neither makes up for the other. Logits of any shapes that broadcast.
    """
    log = (F.logsigmoid(plausible) + emphasis * F.logsigmoid(concept)).clamp(max=-SURE)
    return log - torch.log(-torch.expm1(log))
