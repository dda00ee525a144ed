"""Recipes by name."""

from __future__ import annotations

from training.adaptation.tuning import Tuning
from training.adaptation.unet import UNetTuning

TUNINGS: dict[str, type[Tuning]] = {"unet": UNetTuning}
"""What a recipe trains: a subclass of `Tuning`, made of the foundation and the settings."""
