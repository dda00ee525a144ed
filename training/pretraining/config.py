"""The settings of pre-training with the folders that it reads and writes."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from pydantic import Field

from training.pretraining.precision import Precision
from vouch.recipes import OfDomain, Pretraining


class PretrainConfig(Pretraining):
    """The recipe, and where the result goes."""

    out: Path
    """The diffusers folder to write."""


class DecoderConfig(OfDomain):
    """One sharpening."""

    generator: Path
    """The diffusers folder, or that of an AutoencoderKL alone; its decoder is replaced."""
    features: Path | None = None
    """Folder of an attribute network, in whose features images are compared; none is EfficientNet-Lite1 with ImageNet
    weights."""
    data: Path
    split: Literal["teach", "judge", "all"] = "all"
    size: int | None = None
    seed: int = 0
    threads: int = 2
    steps: int = Field(4000, ge=1)
    minutes: float | None = Field(None, gt=0)
    batch: int = Field(16, ge=1)
    crop: int = Field(32, ge=8)
    """Side of a crop, pixels."""
    lr: float = 4e-4
    detail: float = Field(0.3, ge=0)
    """Weight of pixels at full size; at half size it is 1. The best guess of detail that latents do not hold is a blur,
    so most of that detail is left to the discriminator."""
    perceptual: float = 1.0
    frequency: float = 0.0
    """Weight of the focal frequency loss (arXiv 2012.12821)."""
    drawn: int = Field(0, ge=0)
    """Latents that the generator draws with the captions of the images; beside every restored image the discriminator
    then sees one of these decoded. A U-Net's latents are smoother than those of images, and no reconstruction loss
    can say what is missing of them. 0: restored images alone."""
    noise: float = Field(0.05, ge=0)
    """Most noise on latents, in standard deviations: the decoder then bears the small errors of a U-Net."""
    adversarial: float = Field(3.0, ge=0)
    """Weight of the adversarial loss; 0 leaves it out."""
    adversarial_after: int = Field(60, ge=0)
    """Steps in which the discriminator learns alone."""
    discriminator_lr: float = 1.6e-3
    precision: Precision = "auto"
    checkpoint_every: int = 50
