"""A patch discriminator: is this patch of a real image or of the autoencoder's?"""

from __future__ import annotations

import torch
from torch import nn
from torch.nn.utils.parametrizations import spectral_norm


class PatchDiscriminator(nn.Module):
    """PatchGAN (Isola et al. 2017, arXiv 1611.07004) with spectral normalisation (Miyato et al. 2018, 1802.05957).

    A score sees 20×20 pixels. The first layer keeps the resolution, because granules are two or three pixels wide.
    """

    def __init__(self, width: int = 32, channels: int = 3) -> None:
        super().__init__()
        shapes = [(channels, width, 3, 1), (width, 2 * width, 4, 2), (2 * width, 4 * width, 4, 2)]
        layers: list[nn.Module] = []
        for source, target, kernel, stride in shapes:
            layers += [spectral_norm(nn.Conv2d(source, target, kernel, stride, 1)), nn.LeakyReLU(0.2)]
        layers.append(spectral_norm(nn.Conv2d(4 * width, 1, 3, 1, 1)))
        self.layers = nn.Sequential(*layers)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """Images [N, 3, H, W] in [-1, 1] to scores [N, 1, H/4, W/4]; above 0 for real."""
        scores: torch.Tensor = self.layers(images)
        return scores
