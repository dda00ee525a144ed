"""How far a training is."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TypeAlias

import torch

Metric: TypeAlias = float | torch.Tensor
"""A number, or a scalar tensor that is read when it is told: reading one waits for the device."""


@dataclass(frozen=True)
class TrainingProgress:
    """Where a run is. Example: ``TrainingProgress(120, 2000, "U-Net", {"loss": 0.21})``."""

    step: int
    total_steps: int
    message: str = ""
    metrics: Mapping[str, float] = field(default_factory=dict)


def as_numbers(metrics: Mapping[str, Metric]) -> dict[str, float]:
    return {name: float(value) for name, value in metrics.items()}
