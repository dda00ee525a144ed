"""Losses of an autoencoder: pixels, edges, frequencies, features of a network, and a patch discriminator."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch.nn import functional as F


def pixel_loss(restored: torch.Tensor, images: torch.Tensor) -> torch.Tensor:
    """L1 + squared error + L1 of the horizontal and vertical differences, which keep edges and chromatin crisp.

    Args:
        restored, images: [N, 3, H, W] in [-1, 1].
    """
    error = restored - images
    edges = error.diff(dim=2).abs().mean() + error.diff(dim=3).abs().mean()
    return error.abs().mean() + error.pow(2).mean() + edges


def focal_frequency_loss(restored: torch.Tensor, images: torch.Tensor) -> torch.Tensor:
    """Focal frequency loss (Jiang et al. 2021, arXiv 2012.12821, eq. 8, α = 1): squared error of the spectrum, weighted
    by how wrong each frequency is. Images [N, 3, H, W]."""
    error = torch.fft.rfft2((restored - images).float(), norm="ortho").abs().pow(2)
    with torch.no_grad():
        weight = error.sqrt()
        weight = weight / weight.amax(dim=(2, 3), keepdim=True).clamp(min=1e-8)
    return (weight * error).mean()


def perceptual_loss(restored: Sequence[torch.Tensor], images: Sequence[torch.Tensor]) -> torch.Tensor:
    """Mean over the levels of a network of the squared distance between unit-length features (Johnson et al. 2016,
    arXiv 1603.08155; LPIPS without its learned weights, arXiv 1801.03924).

    Args:
        restored, images: of each level, a map of features [N, C, h, w].
    """
    pairs = zip(restored, images, strict=True)
    losses = [(F.normalize(a, dim=1) - F.normalize(b, dim=1)).pow(2).sum(1).mean() for a, b in pairs]
    return torch.stack(losses).mean()


def hinge_discriminator_loss(real: torch.Tensor, fake: torch.Tensor) -> torch.Tensor:
    """E[relu(1 − D(x))] + E[relu(1 + D(x̂))] (Lim & Ye 2017, arXiv 1705.02894); scores of any shape."""
    return F.relu(1.0 - real).mean() + F.relu(1.0 + fake).mean()


def adaptive_weight(
    reconstruction: torch.Tensor, adversarial: torch.Tensor, limit: float = 20.0
) -> torch.Tensor:
    """‖∇L_rec‖ / ‖∇L_adv‖ at the decoder's last layer, at most `limit` (Esser et al. 2021, arXiv 2012.09841, eq. 7).

    Args:
        reconstruction, adversarial: gradients of the two losses with respect to the same weights.
    """
    return (reconstruction.norm() / (adversarial.norm() + 1e-6)).clamp(max=limit).detach()
