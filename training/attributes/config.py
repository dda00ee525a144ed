"""The settings of an attribute network's training."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from pydantic import Field

from vouch.recipes import OfDomain


class AttributesConfig(OfDomain):
    """One attribute network."""

    data: Path
    out: Path
    split: Literal["teach", "judge", "all"]
    """Which half of the images it may see. The rater takes "teach", the judge "judge"."""
    seed: int = 0
    threads: int = 2
    size: int = 64
    widths: tuple[int, ...] = (32, 64, 128, 192)
    steps: int = Field(1200, ge=1)
    batch: int = 64
    lr: float = 3e-3
    checkpoint_every: int = 100
