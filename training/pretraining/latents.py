"""The images of a data set as latents."""

from __future__ import annotations

import torch
from diffusers import AutoencoderKL

from training.data.augmentation import to_unit, turned
from training.loop import checkpoint
from training.loop.session import TrainingSession
from training.pretraining.captioned import Captioned
from training.pretraining.config import PretrainConfig
from training.pretraining.precision import autocast


@torch.no_grad()
def encode_views(
    config: PretrainConfig,
    vae: AutoencoderKL,
    examples: Captioned,
    session: TrainingSession,
    name: str = "latents",
) -> torch.Tensor:
    """Latents float16 [views, N, C, h, w] of turned copies of every image, kept as `name`. View 0 is not turned."""
    path = session.folder / name
    saved = checkpoint.load_latest(path)
    if session.group.broadcast_scalar(saved is not None):
        assert saved is not None, f"{path} has to be the same folder for every worker"
        return saved[1]["latents"]
    views = config.views if config.symmetric else 1
    total, parts = views * len(examples), []
    for view in range(views):
        for start in range(0, len(examples), 64):
            batch = turned(examples.images[start : start + 64], view)
            batch = to_unit(batch).to(session.device).contiguous(memory_format=torch.channels_last)
            with autocast(config.precision, session.device):  # errs by 0.004 of a latent's deviation
                latent = vae.encode(batch).latent_dist.mode()
            parts.append(latent.half().cpu().contiguous())
            session.report(view * len(examples) + start, total, "encoding")
    latents = torch.cat(parts).unflatten(0, (views, len(examples)))
    if session.group.is_rank_zero:
        checkpoint.save(path, 0, {"latents": latents})
    return latents
