"""A small residual network: images to features."""

from __future__ import annotations

import numpy as np
import torch
from torch import nn
from torch.nn import functional as F


class ResidualBlock(nn.Module):
    """Two 3x3 convolutions with a shortcut (He et al. 2016); the first may halve the resolution."""

    def __init__(self, inputs: int, outputs: int, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(inputs, outputs, 3, stride, 1, bias=False)
        self.norm1 = nn.BatchNorm2d(outputs)
        self.conv2 = nn.Conv2d(outputs, outputs, 3, 1, 1, bias=False)
        self.norm2 = nn.BatchNorm2d(outputs)
        same = stride == 1 and inputs == outputs
        self.shortcut = nn.Identity() if same else nn.Conv2d(inputs, outputs, 1, stride, bias=False)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        inner = self.norm2(self.conv2(F.relu(self.norm1(self.conv1(x)))))
        return F.relu(inner + self.shortcut(x))


class Backbone(nn.Module):
    """Images [N, 3, S, S] in [-1, 1] to features [N, widths[-1]]; each block after the stem halves the resolution."""

    def __init__(self, widths: tuple[int, ...]) -> None:
        super().__init__()
        self.stem = nn.Sequential(
            nn.Conv2d(3, widths[0], 3, 2, 1, bias=False), nn.BatchNorm2d(widths[0]), nn.ReLU()
        )
        pairs = zip((widths[0], *widths[:-1]), widths, strict=True)
        self.blocks = nn.Sequential(
            *(ResidualBlock(i, o, 1 if n == 0 else 2) for n, (i, o) in enumerate(pairs))
        )

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return self.blocks(self.stem(images)).mean((2, 3))


def to_input(images: np.ndarray | torch.Tensor, size: int) -> torch.Tensor:
    """uint8 images [N, H, W, 3] (array) or [N, 3, H, W] (tensor) to float [N, 3, size, size] in [-1, 1]."""
    if isinstance(images, np.ndarray):
        images = torch.from_numpy(np.ascontiguousarray(images)).permute(0, 3, 1, 2)
    # In place: a photograph of 16 megapixels is 192 MB of floats, and each copy would be as many again.
    return fit_size(images.to(torch.float32, copy=True).div_(127.5).sub_(1.0), size)


def fit_size(images: torch.Tensor, size: int) -> torch.Tensor:
    """Float images [N, 3, H, W] brought to `size`; differentiable."""
    if images.shape[-2:] != (size, size):
        images = F.interpolate(images, (size, size), mode="bilinear", antialias=True, align_corners=False)
    return images.contiguous(memory_format=torch.channels_last)
