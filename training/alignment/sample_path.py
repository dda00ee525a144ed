"""The path of a sampler from noise to clean latents."""

from __future__ import annotations

from dataclasses import dataclass

import torch


@dataclass(frozen=True)
class Transition:
    """One denoising step of a sample path: from latents x [N, C, h, w] at place `step` of the trajectory to `after`."""

    step: int
    x: torch.Tensor
    after: torch.Tensor


@dataclass(frozen=True)
class SamplePath:
    """Clean latents [N, C, h, w] and every step on the way to them."""

    clean: torch.Tensor
    transitions: tuple[Transition, ...]
