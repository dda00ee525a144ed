"""Discriminators: is this patch of a real image or of the autoencoder's?"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import nn
from torch.nn import functional as F
from torch.nn.utils.parametrizations import spectral_norm

BANDS = ((1, 3, 16.0), (3, 9, 8.0))
"""Each band: the sides of the two squares of pixels whose means differ by it, and its amplification."""
AMPLIFICATION = 4.0
"""Of features of unit variance: what an autoencoder takes away changes them by a fraction of that."""


@dataclass(frozen=True)
class Observed:
    """Images [N, 3, H, W] in [-1, 1], and what each level of a frozen network makes of them [N, C, h, w]."""

    images: torch.Tensor
    maps: Sequence[torch.Tensor] = ()

    def first(self, count: int) -> Observed:
        """Of so many images."""
        return Observed(self.images[:count], [one[:count] for one in self.maps])

    def detach(self) -> Observed:
        return Observed(self.images.detach(), [one.detach() for one in self.maps])


class Discriminator(nn.Module):
    """What tells patches by their pixels, and where there are features, what tells them by these."""

    def __init__(self, features: FeatureDiscriminator | None = None) -> None:
        super().__init__()
        self.pixels, self.features = PatchDiscriminator(), features

    def forward(self, observed: Observed) -> tuple[torch.Tensor, ...]:
        """Maps of scores [N, 1, h, w]; above 0 for real."""
        by_features = self.features(observed.maps) if self.features else ()
        return (self.pixels(observed.images), *by_features)


class FeatureDiscriminator(nn.Module):
    """A small head upon each level of a frozen network (Sauer et al. 2021, "Projected GANs", arXiv 2111.01007).

    The network knows what makes a cell, so the heads learn within a few hundred steps which of it is missing.
    """

    def __init__(self, sample: Sequence[torch.Tensor], width: int = 48) -> None:
        """sample: the maps of real images, for the scale of each channel."""
        super().__init__()
        self.heads = nn.ModuleList(_head(one.mean((0, 2, 3)), one.std((0, 2, 3)), width) for one in sample)

    def forward(self, maps: Sequence[torch.Tensor]) -> tuple[torch.Tensor, ...]:
        return tuple(head(one) for head, one in zip(self.heads, maps, strict=True))


def _head(mean: torch.Tensor, deviation: torch.Tensor, width: int) -> nn.Sequential:
    channels = len(mean)
    return nn.Sequential(
        Standardized(mean, deviation / AMPLIFICATION),
        spectral_norm(nn.Conv2d(channels, width, 1)),
        nn.LeakyReLU(0.2),
        spectral_norm(nn.Conv2d(width, width, 3, 1, 1)),
        nn.LeakyReLU(0.2),
        spectral_norm(nn.Conv2d(width, 1, 1)),
    )


class Standardized(nn.Module):
    """Subtracts a mean and divides by a deviation [C] of features [N, C, H, W]."""

    def __init__(self, mean: torch.Tensor, deviation: torch.Tensor) -> None:
        super().__init__()
        self.register_buffer("mean", mean[:, None, None])
        self.register_buffer("deviation", deviation.clamp(min=1e-4)[:, None, None])

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        return (features - self.mean) / self.deviation


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
