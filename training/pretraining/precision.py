"""In which number format a network computes."""

from __future__ import annotations

import functools
import time
from typing import Literal

import torch

Precision = Literal["auto", "float32", "bfloat16"]


def autocast(precision: Precision, device: str) -> torch.autocast:
    """Mixed precision: weights stay float32, matrix products run in `precision`.

    "auto" takes bfloat16 on a GPU, and on a CPU that multiplies it faster than float32.
    """
    wanted = precision == "bfloat16" or (precision == "auto" and (device != "cpu" or _cpu_gains()))
    return torch.autocast(device, dtype=torch.bfloat16, enabled=wanted)


@functools.cache
def _cpu_gains() -> bool:
    """Whether a convolution is faster in bfloat16: CPUs without its units emulate it, several times slower."""
    seconds = {}
    for dtype in (torch.float32, torch.bfloat16):
        layer = torch.nn.Conv2d(64, 64, 3, padding=1, dtype=dtype).to(memory_format=torch.channels_last)
        images = torch.randn(8, 64, 32, 32, dtype=dtype).contiguous(memory_format=torch.channels_last)
        layer(images)
        seconds[dtype] = min(_timed(layer, images) for _ in range(5))
    return seconds[torch.bfloat16] < 0.8 * seconds[torch.float32]


@torch.no_grad()
def _timed(layer: torch.nn.Module, images: torch.Tensor) -> float:
    started = time.perf_counter()
    layer(images)
    return time.perf_counter() - started
