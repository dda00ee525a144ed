"""Networks whose features an image is compared in: the levels of a perceptual loss and of a discriminator."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import torch
from torch import nn
from torch.nn import functional as F

from training.efficientnet import LITE1, EfficientNetLite, load_lite
from vouch.models.networks.attributes import AttributeNet

IMAGENET_SCALE = 2.5
"""Images are enlarged for it: cells of 64 pixels to 160, where its first stages see granules."""
IMAGENET_STAGES = 4
"""At 1/2 to 1/16 of the enlarged size."""


def feature_levels(folder: Path | None, device: str) -> list[nn.Module]:
    """The levels of the attribute network in `folder`, frozen; none where none is given."""
    if folder is None:
        return []
    net = AttributeNet.load(folder).eval().requires_grad_(False).to(device)
    return [net.backbone.stem, *net.backbone.blocks]


def imagenet_levels(device: str) -> list[nn.Module]:
    """The first stages of EfficientNet-Lite1 with ImageNet weights, frozen: the network of Projected GANs (Sauer et
    al. 2021, arXiv 2111.01007). Raises what `load_lite` raises."""
    net = load_lite(LITE1, "Sharpening a decoder").to(device)
    return [Stage(net, number) for number in range(IMAGENET_STAGES)]


def feature_maps(levels: Sequence[nn.Module], images: torch.Tensor) -> list[torch.Tensor]:
    """What each level makes of images [N, 3, H, W] in [-1, 1]."""
    maps = []
    for level in levels:
        images = level(images)
        maps.append(images)
    return maps


class Stage(nn.Module):
    """One stage of the network; the first enlarges the images."""

    def __init__(self, net: EfficientNetLite, number: int) -> None:
        super().__init__()
        self._net, self._number = net, number

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        if self._number == 0:
            x = F.interpolate(x, scale_factor=IMAGENET_SCALE, mode="bilinear", align_corners=False)
        return self._net.stage(self._number, x)
