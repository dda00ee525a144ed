"""The settings of a reward training with the folders that it reads and writes."""

from __future__ import annotations

from pathlib import Path

from vouch.recipes import RewardTraining


class RewardConfig(RewardTraining):
    """One reward training."""

    out: Path
    parent: Path | None = None
    """A reward folder to go on from; without one the ensemble starts from random weights."""
