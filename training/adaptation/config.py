"""The settings of an adaptation with the folders that it reads and writes."""

from __future__ import annotations

from pathlib import Path

from vouch.recipes import Adaptation


class AdaptConfig(Adaptation):
    """One adaptation."""

    base: Path
    """The diffusers folder that is adapted."""
    parent: Path | None = None
    """A LoRA folder upon `base` to go on from."""
    out: Path
    cache: Path | None = None
    """Where latents are kept for other runs; default: in the run's folder."""
