"""The settings of pre-training with the folders that it reads and writes."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from pydantic import Field

from vouch.recipes import OfDomain, Pretraining


class PretrainConfig(Pretraining):
    """The recipe, and where the result goes."""

    out: Path
    """The diffusers folder to write."""


class DecoderConfig(OfDomain):
    """One sharpening."""

    generator: Path
    """The diffusers folder; its VAE's decoder is replaced."""
    features: Path
    """A folder of an attribute network."""
    data: Path
    split: Literal["teach", "judge", "all"] = "all"
    size: int | None = None
    seed: int = 0
    threads: int = 2
    steps: int = Field(600, ge=1)
    minutes: float | None = Field(None, gt=0)
    batch: int = Field(12, ge=1)
    lr: float = 5e-4
    perceptual: float = 0.5
    checkpoint_every: int = 50
