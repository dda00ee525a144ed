"""Recipes by name."""

from __future__ import annotations

from training.adaptation.inversion import InversionTuning
from training.adaptation.projection import ProjectionTuning
from training.adaptation.tuning import Tuning
from training.adaptation.unet import UNetTextTuning, UNetTuning

TUNINGS: dict[str, type[Tuning]] = {
    "unet": UNetTuning,
    "unet-text": UNetTextTuning,
    "text-inversion": InversionTuning,
    "text-projection": ProjectionTuning,
}
"""What a recipe trains: a subclass of `Tuning`, made of the foundation and the settings."""
