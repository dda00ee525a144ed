"""Features of EfficientNet-Lite0 with ImageNet weights, upon which the sealed judge is a probe."""

from __future__ import annotations

import hashlib

import numpy as np
import torch
from torch import nn
from torch.nn import functional as F

from training.efficientnet import LITE0, EfficientNetLite, load_lite
from training.evaluation.features import Extractor

PACKAGE = LITE0.package
SIDE = 160
"""Pixels that images are enlarged to: between 128 and 224 the heads gain a point on the judge's half of pbc64's
validation split, and the time triples."""
BATCH = 8  # larger batches leave the cache of a core, and take longer


class TexturePooling(nn.Module):
    """Images float [N, 3, S, S] in [-1, 1] to features [N, D]: mean and deviation over the pixels of some stages, and
    the pooled head.

    Early stages hold texture (granules, chromatin) that the head has learned to ignore.
    """

    STAGES = (1, 2, 3, 4)
    """The last ones at 1/4, 1/8 and 1/16 of the size; at 1/16 those of both widths."""

    def __init__(self, net: EfficientNetLite) -> None:
        super().__init__()
        self.net = net

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        *maps, head = self.net(images)
        pooled = [
            part for stage in self.STAGES for part in (maps[stage].mean((2, 3)), maps[stage].std((2, 3)))
        ]
        return torch.cat([*pooled, head.mean((2, 3))], 1)


def lite0(side: int = SIDE) -> Extractor:
    """The extractor with the weights that the package ships. Raises what `load_lite` raises."""
    return extractor_of(load_lite(LITE0, "The sealed judge"), side)


def extractor_of(net: EfficientNetLite, side: int) -> Extractor:
    """uint8 images [N, H, W, 3] of any size, enlarged to `side`, to features float32 [N, D]."""
    pooling = TexturePooling(net.eval().requires_grad_(False).to(memory_format=torch.channels_last))
    digest = hashlib.sha256(repr((side, pooling.STAGES)).encode())
    for value in net.state_dict().values():
        digest.update(value.numpy().tobytes())

    @torch.inference_mode()
    def features(images: np.ndarray) -> np.ndarray:
        parts = [pooling(_enlarged(images[i : i + BATCH], side)) for i in range(0, len(images), BATCH)]
        return torch.cat(parts).numpy()

    return Extractor("efficientnet-lite0", digest.hexdigest(), features)


def _enlarged(images: np.ndarray, side: int) -> torch.Tensor:
    pixels = torch.from_numpy(np.ascontiguousarray(images)).permute(0, 3, 1, 2).float() / 127.5 - 1
    pixels = F.interpolate(pixels, (side, side), mode="bicubic", align_corners=False)
    return pixels.contiguous(memory_format=torch.channels_last)
