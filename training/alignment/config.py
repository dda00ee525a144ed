"""The settings of an alignment with the folders that it reads and writes."""

from __future__ import annotations

from pathlib import Path

from vouch.recipes import Alignment


class AlignConfig(Alignment):
    """One alignment."""

    out: Path
    base: Path
    """The diffusers folder that the LoRA belongs to."""
    parent: Path | None = None
    """A LoRA folder upon `base` to go on from."""
    reward: Path
