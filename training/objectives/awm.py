"""Advantage-weighted matching: policy gradients by the forward process, on clean images alone."""

from __future__ import annotations

import torch


def awm_loss(
    error: torch.Tensor, old_error: torch.Tensor, advantages: torch.Tensor, *, clip: float
) -> torch.Tensor:
    """-E[ min(ρ·A, clip(ρ, 1 ± ε)·A) ] with ρ = exp(e_old - e) (Xue et al. 2025, arXiv 2509.25050): the denoising error
    of a clean image, which pretraining lowers, stands for the negative logarithm of its probability.

    At ρ = 1 the gradient is A·∇e. What has moved by more than ε in the direction of its advantage pulls no more.

    Args:
        error, old_error: denoising errors of the model and of the version that drew the images, on the same noised
            latents, [N].
        advantages: by how much each image was better than others of its prompt, [N].
        clip: ε.
    """
    ratio = (old_error - error).exp()
    return -torch.minimum(ratio * advantages, ratio.clamp(1 - clip, 1 + clip) * advantages).mean()
