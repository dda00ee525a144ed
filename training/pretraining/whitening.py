"""Latents of mean 0 and standard deviation 1."""

from __future__ import annotations

import torch
from diffusers import AutoencoderKL

from training.data.augmentation import to_unit
from training.pretraining.captioned import Captioned


@torch.no_grad()
def whiten(vae: AutoencoderKL, examples: Captioned, count: int = 2048) -> None:
    """Gives every latent channel mean 0 and standard deviation 1 over `examples`, inside the 1×1 convolutions around
    the latents: what is decoded stays the same, and `scaling_factor` is 1.

    One scale for channels whose deviations differ several times would give each its own signal-to-noise ratio.
    """
    device = vae.quant_conv.weight.device
    stride = max(1, len(examples) // count)
    parts = [
        vae.encode(to_unit(part).to(device)).latent_dist.mean for part in examples.images[::stride].split(64)
    ]
    latents = torch.cat(parts)
    mean, std = latents.mean(dim=(0, 2, 3)), latents.std(dim=(0, 2, 3))
    channels = len(mean)
    quant, post = vae.quant_conv, vae.post_quant_conv
    quant.weight[:channels] /= std[:, None, None, None]
    quant.bias[:channels] = (quant.bias[:channels] - mean) / std
    quant.bias[channels:] -= 2 * std.log()
    post.bias += post.weight[:, :, 0, 0] @ mean
    post.weight *= std[None, :, None, None]
    vae.register_to_config(scaling_factor=1.0)
