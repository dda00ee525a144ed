"""What keeps a fine-tune from paying for the errors of its reward: an anchor to the parent, and its variety."""

from __future__ import annotations

import torch

from training.objectives.denoising import per_sample_error

NOTHING = 1e-12


def anchor_loss(
    output: torch.Tensor, reference: torch.Tensor, disagreement: torch.Tensor, uncertainty_scale: float
) -> torch.Tensor:
    """E[ (1 + c·s)·‖v − v_parent‖² ]: stronger where the ensemble disagrees, for there its gradient is worth least
    (after GARDO, arXiv 2512.24138, which gates the same penalty).

    Args:
        output, reference: outputs of model and parent for the same noisy latents, [N, C, h, w].
        disagreement: standard deviation s of the members' logits, [N].
        uncertainty_scale: c.
    """
    return ((1.0 + uncertainty_scale * disagreement.detach()) * per_sample_error(output, reference)).mean()


def narrowing(clean: torch.Tensor, reference: torch.Tensor, groups: torch.Tensor) -> torch.Tensor:
    """By which share images of one group differ less from each other than the parent's of the same noise do; 0 where
    they differ as much or more.

    Args:
        clean, reference: clean latents of model and parent, [N, C, h, w].
        groups: the prompts as numbers [N]. A group of one image counts as 0.
    """
    ours, theirs = (_spread(latents, groups) for latents in (clean, reference))
    return torch.relu(1.0 - ours / theirs)


def dispersion(features: torch.Tensor, groups: torch.Tensor) -> torch.Tensor:
    """Mean distance of each image [N] to the others of its group, in features [N, D]; 0 where there are none."""
    # A root has no slope at 0, where every image is from itself.
    apart = (features[:, None] - features[None]).pow(2).sum(2).clamp(min=NOTHING).sqrt()
    others = (groups[:, None] == groups[None]) & ~torch.eye(len(groups), dtype=torch.bool)
    return (apart * others).sum(1) / others.sum(1).clamp(min=1)


def _spread(latents: torch.Tensor, groups: torch.Tensor) -> torch.Tensor:
    """Root mean square distance from the mean of the own group."""
    flat = latents.flatten(1)
    count = torch.bincount(groups).clamp(min=1)
    means = torch.zeros(len(count), flat.shape[1], dtype=flat.dtype).index_add(0, groups, flat)
    # The root has no slope at nothing, which is what images alone in their group differ by.
    return (flat - means[groups] / count[groups, None]).pow(2).mean().clamp(min=NOTHING).sqrt()
