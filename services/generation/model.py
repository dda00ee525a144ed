"""The engine's interface of a generator."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

import numpy as np
import torch

from vouch.models.predictions import Predictor
from vouch.models.sampling import Trajectory
from vouch.types.guidance import GuidanceOptions

OnStep = Callable[[int, int], bool]


class Model(Predictor, Protocol):
    """A generator version in memory. Latents are float32 [N, C, h, w], prompt embeddings [N, L, D]."""

    @property
    def stepwise(self) -> bool:
        """Whether the engine can take single steps. False: only `generate` works."""
        ...

    def trajectory(self, steps: int, sampler: str = "", eta: float = 0.0) -> Trajectory: ...
    def noise(self, generator: torch.Generator) -> torch.Tensor:
        """Standard normal latents [1, C, h, w]."""
        ...

    def decode(self, x: torch.Tensor) -> np.ndarray:
        """Pixels uint8 [N, H, W, 3] of clean latents."""
        ...

    def generate(
        self,
        prompts: list[str],
        seeds: list[int],
        steps: int,
        guidance: float,
        on_step: OnStep | None,
        options: GuidanceOptions,
    ) -> np.ndarray:
        """Whole images, uint8 [N, H, W, 3]."""
        ...
