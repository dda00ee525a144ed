"""Sharpening of a generator's decoder, its latents and everything else untouched.

An autoencoder trained on pixels alone blurs what is fine and random: chromatin, granules, the tint of a cytoplasm. So
the decoder is trained on with a perceptual term (Johnson et al. 2016, arXiv 1603.08155), between features of a network
that knows these cells. That network is one of the teaching half, so the judge stays independent.
"""

from __future__ import annotations

from pathlib import Path
from typing import Literal

import torch
from diffusers import AutoencoderKL
from pydantic import BaseModel, ConfigDict, Field

from training.data.augmentation import to_unit
from training.data.examples import Examples, load_examples
from training.data.splits import split_of
from training.loop.ema import Ema
from training.loop.gradient_step import gradient_step
from training.loop.learning_rates import warm_up
from training.loop.session import TrainingSession
from training.loop.trainer import Trainer
from training.loop.training_loop import TrainingLoop
from training.objectives.reconstruction import perceptual_loss, pixel_loss
from training.randomness import tensors
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
    split: Literal["teach", "judge", "all"] = "all"
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


def fit(config: DecoderConfig, session: TrainingSession) -> dict[str, float]:
    """Trains the decoder, resuming from the session's folder, and saves the VAE in its place."""
    torch.set_num_threads(config.threads)
    examples = split_of(load_examples(config.data, config.size, config.domain), config.split)
    trainer = DecoderTrainer(config, examples, session)
    result = TrainingLoop(
        trainer, session, "decoder", session.folder, config.steps, config.minutes, config.checkpoint_every
    ).run()  # its last checkpoint comes before the decoder that training began with is replaced
    trainer.ema.swap()
    replace(trainer.vae.to(torch.float16), config.generator / "vae")
    return {"steps": result.steps, "seconds": result.seconds, "train_error_255": result.metrics["error_255"]}


class DecoderTrainer(Trainer):
    """The decoder of an autoencoder whose encoder is frozen."""

    parts = ("decoder", "optimizer", "ema")

    def __init__(self, config: DecoderConfig, examples: Examples, session: TrainingSession) -> None:
        self.config, self.images, self.group = config, examples.images, session.group
        self.vae = AutoencoderKL.from_pretrained(str(config.generator / "vae"), torch_dtype=torch.float32)
        self.vae.requires_grad_(False).to(memory_format=torch.channels_last)
        self.decoder = torch.nn.ModuleList([self.vae.decoder, self.vae.post_quant_conv]).requires_grad_(True)
        critic = AttributeNet.load(config.features).eval().requires_grad_(False)
        self.levels = [critic.backbone.stem, *critic.backbone.blocks]
        self.parameters = list(self.decoder.parameters())
        self.optimizer = torch.optim.AdamW(self.parameters, lr=config.lr, betas=(0.9, 0.99), weight_decay=0.0)
        self.ema = Ema([self.decoder], 0.99)

    def rate(self, done: float, step: int) -> float:
        """Linear warm-up over 20 steps, and a linear fall to nothing over the second half."""
        return min(warm_up(step, 20), 2 * (1.0 - max(done, step / self.config.steps)) + 0.01)

    def step(self, step: int, done: float) -> dict[str, float]:
        del done
        random_ = tensors(self.config.seed, "decoder", step)
        rows = torch.randint(0, len(self.images), (self.config.batch,), generator=random_)
        images = to_unit(self.images[rows]).contiguous(memory_format=torch.channels_last)
        with torch.no_grad():
            latents = self.vae.encode(images).latent_dist.mode()
        restored = self.vae.decode(latents).sample
        loss = pixel_loss(restored, images)
        loss = loss + self.config.perceptual * perceptual_loss(self.levels, restored, images)
        gradient_step(loss, self.optimizer, self.parameters, self.group)
        self.ema.update()
        error = float((restored.detach() - images).abs().mean()) * 127.5
        return {"loss": float(loss.detach()), "error_255": error}


def replace(vae: AutoencoderKL, folder: Path) -> None:
    """Writes `vae` in the place of the one in `folder`, file by file: whoever is killed on the way leaves none in
    half."""
    written = folder / ".writing"  # of one name, so that the next attempt takes away what a killed one left
    vae.save_pretrained(written, safe_serialization=True)
    for file in written.iterdir():
        file.replace(folder / file.name)
    written.rmdir()
