"""What one pre-training run is told."""

from __future__ import annotations

from pathlib import Path

from vouch.recipes import Pretraining


class PretrainConfig(Pretraining):
    """The recipe, and where the result goes."""

    out: Path
    """The diffusers folder to write."""
