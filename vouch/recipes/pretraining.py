"""Settings of a pre-training."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from pydantic import Field

from vouch.recipes.base import Decays, Recipe, Sizes


class Pretraining(Recipe):
    """A miniature Stable Diffusion from labelled images. The default sizes are for cells of 64 pixels."""

    data: Path = Field(description="labelled images of the training split: Parquet, tar or folder")
    size: int | None = Field(
        None, ge=16, le=1024, description="resize images to this many pixels a side; default: their size"
    )

    precision: Literal["auto", "float32", "bfloat16"] = Field(
        "auto",
        description="number format of matrix products; auto: bfloat16 if the processor computes it faster",
    )
    vae: Path | None = Field(
        None, description="folder of a trained AutoencoderKL, used unchanged; default: train one"
    )
    vae_start: Path | None = Field(
        None,
        description="AutoencoderKL folder to train further; may have fewer latent channels; default: random weights",
    )
    vae_steps: int = Field(9000, ge=1, le=10_000_000, description="optimizer steps of the autoencoder phase")
    vae_minutes: float | None = Field(
        None, gt=0, le=525_600, description="time budget of the autoencoder phase over all attempts, minutes"
    )
    vae_batch: int = Field(32, ge=1, le=4096, description="crops per optimizer step of the autoencoder phase")
    vae_crop: int = Field(32, ge=8, le=1024, description="side of a training crop, pixels")
    vae_lr: float = Field(
        2e-3, gt=0, le=10, description="peak learning rate of the autoencoder, with cosine decay"
    )
    vae_warmup: int = Field(
        100, ge=0, le=10_000_000, description="warm-up steps of the autoencoder's learning rate"
    )
    vae_ema: float = Field(
        0.998, ge=0, lt=1, description="decay of the moving average of the autoencoder's weights"
    )
    vae_channels: Sizes = Field((48, 96, 128), description="channels of the autoencoder's levels")
    latent_channels: int = Field(
        8,
        ge=1,
        le=64,
        description="latent channels; 4 lose granules and chromatin at a downsampling factor of 4",
    )
    kl_weight: float = Field(1e-5, ge=0, le=1e6, description="weight of the KL divergence per latent value")
    latent_noise: float = Field(
        0.1,
        ge=0,
        le=10,
        description="maximum noise on latents before decoding, in their standard deviations",
    )
    equivariance: float = Field(
        0.2,
        ge=0,
        le=1,
        description="fraction of steps that decode latents at half the size (EQ-VAE, 2502.09509)",
    )
    vae_features: Path | None = Field(
        None,
        description="folder of an attribute network, never a judge's, for the perceptual loss; default: no such loss",
    )
    perceptual_from: float = Field(
        0.4,
        ge=0,
        le=1,
        description="fraction of the phase after which the perceptual and frequency losses start",
    )
    perceptual_weight: float = Field(0.3, ge=0, le=1e6, description="weight of the perceptual loss")
    frequency_weight: float = Field(
        0.5, ge=0, le=1e6, description="weight of the focal frequency loss (2012.12821)"
    )
    adversarial_from: float = Field(
        0.5, ge=0, le=1, description="fraction of the phase after which the discriminator starts"
    )
    adversarial_weight: float = Field(
        0.5,
        ge=0,
        le=1e6,
        description="weight of the adversarial loss, multiplied by the ratio of gradients at the last layer",
    )
    discriminator_lr: float = Field(1.6e-3, gt=0, le=10, description="learning rate of the discriminator")
    views: int = Field(8, ge=1, le=8, description="orientations of each image whose latents are cached")

    held_out: Path | None = Field(
        None,
        description="labelled images for the held-out loss, which selects the EMA decay and the kept step",
    )
    unet: Path | None = Field(
        None,
        description="diffusers folder whose U-Net and text encoder initialize the U-Net phase; default: random weights",
    )
    steps: int = Field(12000, ge=1, le=10_000_000, description="optimizer steps of the U-Net phase")
    minutes: float | None = Field(
        None,
        gt=0,
        le=525_600,
        description="time budget of the U-Net phase over all attempts, cool-down included, minutes",
    )
    batch: int = Field(64, ge=1, le=4096, description="images per optimizer step of the U-Net phase")
    lr: float = Field(6e-4, gt=0, le=10, description="learning rate of the U-Net phase")
    weight_decay: float = Field(1e-2, ge=0, le=10, description="decoupled weight decay (AdamW)")
    warmup: int = Field(200, ge=0, le=10_000_000, description="warm-up steps of the learning rate")
    cooldown: float = Field(
        0.25, ge=0, le=1, description="last fraction of the phase, in which the learning rate falls to zero"
    )
    ema: Decays = Field(
        (0.9995, 0.998),
        description="decays of the moving averages of the weights; the held-out loss selects one",
    )
    drop_caption: float = Field(
        0.1,
        ge=0,
        le=1,
        description="probability of dropping the caption, for classifier-free guidance (2207.12598)",
    )
    dropout: float = Field(0.1, ge=0, lt=1, description="dropout rate in the U-Net's residual blocks")
    timestep_shift: float = Field(
        0.0,
        ge=-100,
        le=100,
        description="mean of the logit-normal distribution of timesteps; > 0: noisier timesteps",
    )
    timestep_spread: float = Field(
        1.0, gt=0, le=100, description="standard deviation of the logit-normal distribution of timesteps"
    )
    timestep_uniform: float = Field(
        0.2, ge=0, le=1, description="fraction of timesteps that are sampled uniformly"
    )
    channels: Sizes = Field((80, 128, 192), description="channels of the U-Net's levels")
    text_width: int = Field(64, ge=8, le=4096, description="width of the text encoder")
    text_layers: int = Field(2, ge=1, le=64, description="layers of the text encoder")
    default_steps: int = Field(20, ge=1, le=200, description="default denoising steps of a request")
    default_guidance: float = Field(2.0, ge=0, le=30, description="default guidance scale of a request")
    default_stop: float = Field(
        1.0, gt=0, le=1, description="default fraction of the denoising steps after which guidance stops"
    )
    guide_at: float = Field(
        0.0,
        ge=0,
        lt=1,
        description="fraction of the steps after which an early version is saved as the guide of autoguidance "
        "(2406.02507); 0: none",
    )
    checkpoint_every: int = Field(200, ge=1, le=1_000_000, description="optimizer steps between checkpoints")
    validate_every: int = Field(
        250, ge=1, le=1_000_000, description="U-Net steps between evaluations of the held-out loss"
    )
    validated: int = Field(384, ge=1, le=1_000_000, description="images per evaluation of the held-out loss")
    grid_every: int = Field(
        500, ge=1, le=1_000_000, description="U-Net steps between sheets of generated images"
    )
