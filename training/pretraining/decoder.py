"""Sharpening of a generator's decoder, its latents and everything else untouched.

An autoencoder trained on pixels alone blurs what is fine and random: chromatin, granules, the tint of a cytoplasm. So
the decoder is trained on with a perceptual term (Johnson et al. 2016, arXiv 1603.08155), between features of a network
that knows these cells. That network is one of the teaching half, so the judge stays independent.
"""

from __future__ import annotations

import time
from pathlib import Path
from typing import Literal

import torch
from diffusers import AutoencoderKL
from pydantic import BaseModel, ConfigDict, Field

from training import checkpoint
from training.attributes import half_of
from training.data import load_examples, to_unit
from training.ema import Ema
from training.objectives.reconstruction import perceptual_loss, pixel_loss
from training.randomness import tensors
from training.session import Session
from vouch.domains.criteria import Domain, load_domain
from vouch.models.networks.attributes import AttributeNet


def _shipped_domain() -> Domain:
    return load_domain()


class DecoderConfig(BaseModel):
    """One sharpening."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    generator: Path
    """The diffusers folder; its VAE's decoder is replaced."""
    features: Path
    """A folder of an attribute network."""
    data: Path
    half: Literal["teach", "judge", "all"] = "all"
    domain: Domain = Field(default_factory=_shipped_domain)
    size: int | None = None
    seed: int = 0
    threads: int = 2
    steps: int = Field(600, ge=1)
    minutes: float | None = Field(None, gt=0)
    batch: int = Field(12, ge=1)
    lr: float = 5e-4
    perceptual: float = 0.5
    checkpoint_every: int = 50


def fit(config: DecoderConfig, session: Session) -> dict[str, float]:
    """Trains the decoder, resuming from the session's folder, and saves the VAE in its place."""
    torch.set_num_threads(config.threads)
    examples = half_of(load_examples(config.data, config.size, config.domain), config.half)
    vae = AutoencoderKL.from_pretrained(str(config.generator / "vae"), torch_dtype=torch.float32)
    vae.requires_grad_(False).to(memory_format=torch.channels_last)
    parts = torch.nn.ModuleList([vae.decoder, vae.post_quant_conv]).requires_grad_(True)
    critic = AttributeNet.load(config.features).eval().requires_grad_(False)
    levels = [critic.backbone.stem, *critic.backbone.blocks]
    optimizer = torch.optim.AdamW(parts.parameters(), lr=config.lr, betas=(0.9, 0.99), weight_decay=0.0)
    ema = Ema([parts], 0.99)
    step, seconds, error = _resume(parts, optimizer, ema, session.folder)
    started = time.monotonic()

    def spent() -> float:
        return seconds + time.monotonic() - started

    def done() -> float:
        by_time = spent() / (60 * config.minutes) if config.minutes else 0.0
        return max(step / config.steps, by_time)

    def keep() -> None:
        state = {"parts": parts.state_dict(), "optimizer": optimizer.state_dict(), "ema": ema.state_dict()}
        checkpoint.save(session.folder, step, {**state, "seconds": spent(), "error": error})

    while done() < 1.0:
        step += 1
        for group in optimizer.param_groups:
            group["lr"] = config.lr * min(1.0, step / 20, 2 * (1.0 - done()) + 0.01)
        rows = torch.randint(
            0, len(examples), (config.batch,), generator=tensors(config.seed, "decoder", step)
        )
        images = to_unit(examples.images[rows]).contiguous(memory_format=torch.channels_last)
        with torch.no_grad():
            latents = vae.encode(images).latent_dist.mode()
        restored = vae.decode(latents).sample
        loss = pixel_loss(restored, images) + config.perceptual * perceptual_loss(levels, restored, images)
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(parts.parameters(), 1.0)
        optimizer.step()
        ema.update()
        error = float((restored.detach() - images).abs().mean()) * 127.5
        session.report(step, config.steps, "decoder", loss=float(loss.detach()), error_255=error)
        if step % config.checkpoint_every == 0:
            keep()
    # The decoder that training began with is about to go: an attempt after this one finds nothing left to learn.
    keep()
    ema.swap()
    replace(vae.to(torch.float16), config.generator / "vae")
    return {"steps": step, "seconds": spent(), "train_error_255": error}


def replace(vae: AutoencoderKL, folder: Path) -> None:
    """Writes `vae` in the place of the one in `folder`, file by file: whoever is killed on the way leaves none in
    half."""
    written = folder / ".writing"  # of one name, so that the next attempt takes away what a killed one left
    vae.save_pretrained(written, safe_serialization=True)
    for file in written.iterdir():
        file.replace(folder / file.name)
    written.rmdir()


def _resume(
    parts: torch.nn.Module, optimizer: torch.optim.Optimizer, ema: Ema, folder: Path
) -> tuple[int, float, float]:
    """Steps and seconds so far, and the last error."""
    found = checkpoint.load_latest(folder)
    if found is None:
        return 0, 0.0, 0.0
    step, state = found
    parts.load_state_dict(state["parts"])
    optimizer.load_state_dict(state["optimizer"])
    ema.load_state_dict(state["ema"])
    return step, state["seconds"], state["error"]
