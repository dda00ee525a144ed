"""The settings of a pre-training."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from pydantic import Field

from vouch.recipes.base import Decays, Recipe, Sizes


class Pretraining(Recipe):
    """A miniature Stable Diffusion from labelled images. Sizes are for 64-pixel cells; every one is a setting."""

    data: Path = Field(description="labelled images: Parquet, tar or folder; the training split only")
    size: int | None = Field(None, ge=16, le=1024, description="resize to so many pixels square")

    precision: Literal["auto", "float32", "bfloat16"] = Field(
        "auto",
        description="number format of matrix products; auto: bfloat16 where the processor multiplies it faster",
    )
    vae: Path | None = Field(
        None, description="folder of a trained AutoencoderKL to build upon; default: train one"
    )
    vae_start: Path | None = Field(
        None,
        description="folder of an AutoencoderKL to train on; it may have fewer latent channels. Default: none",
    )
    vae_steps: int = Field(9000, ge=1, le=10_000_000, description="autoencoder steps")
    vae_minutes: float | None = Field(
        None, gt=0, le=525_600, description="time budget of the autoencoder phase over all attempts, minutes"
    )
    vae_batch: int = Field(32, ge=1, le=4096, description="crops a step")
    vae_crop: int = Field(32, ge=8, le=1024, description="side of a crop, pixels")
    vae_lr: float = Field(
        2e-3, gt=0, le=10, description="peak learning rate of the autoencoder; it falls by half a cosine"
    )
    vae_warmup: int = Field(100, ge=0, le=10_000_000, description="steps over which that rate rises")
    vae_ema: float = Field(0.998, ge=0, lt=1, description="decay of the autoencoder's averaged weights")
    vae_channels: Sizes = (48, 96, 128)
    latent_channels: int = Field(
        8, ge=1, le=64, description="latent channels; 4 lose granules and chromatin at f = 4"
    )
    kl_weight: float = Field(1e-5, ge=0, le=1e6, description="weight of the KL divergence per latent value")
    latent_noise: float = Field(
        0.1,
        ge=0,
        le=10,
        description="most noise on latents before they are decoded, in their standard deviations",
    )
    equivariance: float = Field(
        0.2,
        ge=0,
        le=1,
        description="share of steps that decode latents at half the size (EQ-VAE, 2502.09509)",
    )
    vae_features: Path | None = Field(
        None, description="attribute network of the perceptual loss; never one that judges. Default: none"
    )
    perceptual_from: float = Field(
        0.4, ge=0, le=1, description="share of the phase after which perceptual and frequency losses join"
    )
    perceptual_weight: float = Field(0.3, ge=0, le=1e6, description="weight of the perceptual loss")
    frequency_weight: float = Field(
        0.5, ge=0, le=1e6, description="weight of the focal frequency loss (2012.12821)"
    )
    adversarial_from: float = Field(
        0.5, ge=0, le=1, description="share of the phase after which the discriminator joins"
    )
    adversarial_weight: float = Field(
        0.5,
        ge=0,
        le=1e6,
        description="weight of the adversarial loss, times the ratio of gradients at the last layer",
    )
    discriminator_lr: float = Field(1.6e-3, gt=0, le=10, description="learning rate of the discriminator")
    views: int = Field(
        8, ge=1, le=8, description="orientations of each image, encoded once and kept as latents"
    )

    held_out: Path | None = Field(
        None, description="labelled images that choose the average's length and the step that is kept"
    )
    unet: Path | None = Field(
        None,
        description="diffusers folder whose U-Net and text encoder the phase begins with; default: random weights",
    )
    steps: int = Field(12000, ge=1, le=10_000_000, description="U-Net steps")
    minutes: float | None = Field(
        None,
        gt=0,
        le=525_600,
        description="time budget of the U-Net phase over all attempts; the learning rate cools down within it",
    )
    batch: int = Field(64, ge=1, le=4096, description="images a step")
    lr: float = Field(6e-4, gt=0, le=10, description="learning rate")
    weight_decay: float = Field(1e-2, ge=0, le=10, description="decoupled weight decay (AdamW)")
    warmup: int = Field(200, ge=0, le=10_000_000, description="steps over which the rate rises")
    cooldown: float = Field(0.25, ge=0, le=1, description="last share of the run, in which lr falls to zero")
    ema: Decays = Field((0.9995, 0.998), description="decays of the averaged weights; held_out chooses one")
    drop_caption: float = Field(
        0.1, ge=0, le=1, description="how often the caption is left out (Ho & Salimans 2022)"
    )
    dropout: float = Field(0.1, ge=0, lt=1, description="dropout in the U-Net's residual blocks")
    timestep_shift: float = Field(
        0.0, ge=-100, le=100, description="mean of the logit-normal distribution of timesteps; > 0: noisier"
    )
    timestep_spread: float = Field(1.0, gt=0, le=100, description="its standard deviation")
    timestep_uniform: float = Field(
        0.2, ge=0, le=1, description="share of timesteps that are drawn uniformly"
    )
    channels: Sizes = (80, 128, 192)
    text_width: int = Field(64, ge=8, le=4096)
    text_layers: int = Field(2, ge=1, le=64)
    default_steps: int = Field(20, ge=1, le=200, description="denoising steps of a request that names none")
    default_guidance: float = Field(2.0, ge=0, le=30, description="guidance of a request that names none")
    default_stop: float = Field(
        1.0, gt=0, le=1, description="share of the steps after which such a request is drawn without guidance"
    )
    guide_at: float = Field(
        0.0,
        ge=0,
        lt=1,
        description="share of the steps at which an early version is kept beside the result, for autoguidance "
        "(2406.02507); 0: none",
    )
    checkpoint_every: int = Field(200, ge=1, le=1_000_000)
    validate_every: int = Field(250, ge=1, le=1_000_000, description="U-Net steps between held-out losses")
    validated: int = Field(384, ge=1, le=1_000_000, description="held-out images of such a loss")
    grid_every: int = Field(500, ge=1, le=1_000_000)
