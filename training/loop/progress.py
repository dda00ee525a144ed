"""How far a training is."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True)
class TrainingProgress:
    """Where a run is. Example: ``TrainingProgress(120, 2000, "U-Net", {"loss": 0.21})``."""

    step: int
    total_steps: int
    message: str = ""
    metrics: Mapping[str, float] = field(default_factory=dict)
