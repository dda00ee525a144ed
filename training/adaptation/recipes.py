"""Recipes by name."""

from __future__ import annotations

from training.adaptation.inversion import InversionTuning
from training.adaptation.projection import ProjectionTuning
from training.adaptation.tuning import Tuning
from training.adaptation.unet import UNetTuning

TUNINGS: dict[str, type[Tuning]] = {
    "unet": UNetTuning,
    "text-inversion": InversionTuning,
    "text-projection": ProjectionTuning,
}
"""What a recipe trains: a subclass of `Tuning`, made of the foundation and the settings."""
