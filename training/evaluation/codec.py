"""Images through a generator's autoencoder: the best that the generator can draw, whatever its U-Net learned."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch

from vouch.models.networks.backbone import to_input

BATCH = 32


def autoencoder_folder(folder: Path) -> Path:
    """Where the autoencoder of a diffusers folder lies; the folder itself where it is an autoencoder's."""
    inner = Path(folder) / "vae"
    return inner if inner.is_dir() else Path(folder)


def load_autoencoder(folder: Path) -> Any:
    """The frozen autoencoder of a diffusers folder, or one that `save_pretrained` wrote alone; single precision."""
    from diffusers import AutoencoderKL

    vae = AutoencoderKL.from_pretrained(str(autoencoder_folder(folder)), torch_dtype=torch.float32)
    return vae.eval().requires_grad_(False).to(memory_format=torch.channels_last)


@torch.inference_mode()
def through(vae: Any, images: np.ndarray) -> np.ndarray:
    """uint8 [N, H, W, 3], encoded to the posterior's mode and decoded."""
    parts = []
    for start in range(0, len(images), BATCH):
        batch = images[start : start + BATCH]
        pixels = to_input(batch, batch.shape[1]).to(vae.device, vae.dtype)
        decoded = vae.decode(vae.encode(pixels).latent_dist.mode()).sample.float().clamp(-1, 1)
        parts.append(((decoded + 1) * 127.5).round().byte().permute(0, 2, 3, 1).cpu().numpy())
    return np.concatenate(parts)
