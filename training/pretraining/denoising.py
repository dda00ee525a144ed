"""What a denoising loss is made of: captions, timesteps, the error of the velocity."""

from __future__ import annotations

import random
from typing import Any

import torch

from training.objectives import denoising
from training.pretraining.captioned import Captioned
from training.pretraining.config import PretrainConfig
from training.pretraining.networks import Networks

TIMESTEPS = 1000


def velocity_error(
    networks: Networks,
    unet: Any,
    clean: torch.Tensor,
    noise: torch.Tensor,
    timesteps: torch.Tensor,
    prompts: torch.Tensor,
) -> torch.Tensor:
    """Squared error [N] of the predicted velocity (v-prediction, arXiv 2202.00512) of latents [N, C, h, w]."""
    alphas, timesteps = networks.scheduler.alphas_cumprod.to(clean.device), timesteps.to(clean.device)
    noisy = networks.scheduler.add_noise(clean, noise, timesteps).contiguous(
        memory_format=torch.channels_last
    )
    output = unet(noisy, timesteps, prompts).sample
    wanted = denoising.target("v_prediction", clean, noise, alphas, timesteps)
    return denoising.per_sample_error(output, wanted)


def draw_timesteps(count: int, config: PretrainConfig, random_: torch.Generator) -> torch.Tensor:
    """Timesteps [count] of 1,000, on the generator's device: logit-normal (Esser et al. 2024, arXiv 2403.03206, eq.
    19), because structure is decided in the middle of the trajectory; a share is uniform, because sampling begins at
    its very end."""
    where = {"generator": random_, "device": random_.device}
    logits = config.timestep_shift + config.timestep_spread * torch.randn(count, **where)
    share = torch.rand(count, **where)
    even = torch.rand(count, **where) < config.timestep_uniform
    return (torch.where(even, share, torch.sigmoid(logits)) * TIMESTEPS).long().clamp(0, TIMESTEPS - 1)


def draw_caption(examples: Captioned, row: int, drop: float, rng: random.Random) -> str:
    """The caption of one image in one of its forms; empty with probability `drop`, for guidance."""
    if rng.random() < drop:
        return ""
    return examples.caption(row, rng)
