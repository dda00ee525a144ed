"""Sharpening of a generator's decoder, its latents and everything else untouched.

An autoencoder trained on pixels alone blurs what is fine and random: chromatin, granules, the tint of a cytoplasm. So
the decoder is trained on with a perceptual term (Johnson et al. 2016, arXiv 1603.08155), between features of a network
that knows these cells, and against a discriminator. That network is one of the teaching half, so the judge stays
independent. A U-Net that was trained on the latents goes on with the sharper decoder as it is.
"""

from __future__ import annotations

from pathlib import Path
from typing import Literal

import torch
from diffusers import AutoencoderKL
from pydantic import BaseModel, ConfigDict, Field

from training.data.examples import Examples, load_examples
from training.data.splits import split_of
from training.loop.ema import Ema
from training.loop.gradient_step import apply_gradients
from training.loop.learning_rates import warm_up
from training.loop.session import TrainingSession
from training.loop.trainer import Trainer
from training.loop.training_loop import TrainingLoop
from training.objectives import reconstruction
from training.pretraining.adversary import Adversary
from training.pretraining.autoencoder import feature_levels, random_crops
from training.pretraining.precision import Precision, autocast
from training.randomness import tensors
from vouch.domains.criteria import Domain, load_domain


def _shipped_domain() -> Domain:
    return load_domain()


class DecoderConfig(BaseModel):
    """One sharpening."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    generator: Path
    """The diffusers folder, or that of an AutoencoderKL alone; its decoder is replaced."""
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
    batch: int = Field(32, ge=1)
    crop: int = Field(32, ge=8)
    """Side of a crop, pixels."""
    lr: float = 4e-4
    perceptual: float = 0.3
    frequency: float = 0.5
    """Weight of the focal frequency loss (arXiv 2012.12821)."""
    noise: float = Field(0.1, ge=0)
    """Most noise on latents, in standard deviations: the decoder then bears the small errors of a U-Net."""
    adversarial: float = Field(0.5, ge=0)
    """Weight of the adversarial loss; 0 leaves it out."""
    adversarial_after: int = Field(150, ge=0)
    """Steps in which the discriminator learns alone."""
    discriminator_lr: float = 1.6e-3
    precision: Precision = "auto"
    checkpoint_every: int = 50


def fit(config: DecoderConfig, session: TrainingSession) -> dict[str, float]:
    """Trains the decoder, resuming from the session's folder, and saves the VAE in its place."""
    torch.set_num_threads(config.threads)
    torch.manual_seed(config.seed)  # of the discriminator's first weights
    examples = split_of(load_examples(config.data, config.size, config.domain), config.split)
    trainer = DecoderTrainer(config, examples, session)
    result = TrainingLoop(
        trainer, session, "decoder", session.folder, config.steps, config.minutes, config.checkpoint_every
    ).run()  # its last checkpoint comes before the decoder that training began with is replaced
    trainer.ema.swap()
    replace(trainer.vae.to(torch.float16), vae_folder(config.generator))
    return {"steps": result.steps, "seconds": result.seconds, "train_error_255": result.metrics["error_255"]}


def vae_folder(generator: Path) -> Path:
    """Where the autoencoder of a diffusers folder lies; the folder itself where it is an autoencoder's."""
    return generator / "vae" if (generator / "vae").is_dir() else generator


class DecoderTrainer(Trainer):
    """The decoder of an autoencoder whose encoder is frozen, and the discriminator that it learns against."""

    parts = ("decoder", "optimizer", "ema", "adversary")

    def __init__(self, config: DecoderConfig, examples: Examples, session: TrainingSession) -> None:
        self.config, self.images, self.group = config, examples.images, session.group
        self.device = session.device
        self.vae = AutoencoderKL.from_pretrained(str(vae_folder(config.generator)), torch_dtype=torch.float32)
        self.vae.requires_grad_(False).to(self.device, memory_format=torch.channels_last)
        self.decoder = torch.nn.ModuleList([self.vae.decoder, self.vae.post_quant_conv]).requires_grad_(True)
        self.levels = feature_levels(config.features, self.device)
        self.adversary = Adversary(
            config.discriminator_lr, config.adversarial, config.precision, self.device, self.group
        )
        self.trained = list(self.decoder.parameters())
        self.parameters = [*self.trained, *self.adversary.parameters]
        self.optimizer = torch.optim.AdamW(self.trained, lr=config.lr, betas=(0.9, 0.99), weight_decay=0.0)
        self.ema = Ema([self.decoder], 0.998)

    def rate(self, done: float, step: int) -> float:
        """Linear warm-up over 20 steps, and a linear fall to nothing over the second half."""
        return min(warm_up(step, 20), 2 * (1.0 - max(done, step / self.config.steps)) + 0.01)

    def step(self, step: int, done: float) -> dict[str, float]:
        del done
        images, restored = self._restored(tensors(self.group.rank_seed(self.config.seed), "decoder", step))
        loss, gradient = self._reconstruction(images, restored)
        metrics = {"loss": loss, "error_255": float((restored.detach() - images).abs().mean()) * 127.5}
        if self.config.adversarial:
            if step > self.config.adversarial_after:
                last = self.vae.decoder.conv_out.weight
                gradient = gradient + self.adversary.gradient(restored, gradient, last)
            metrics["discriminator_loss"] = self.adversary.update(images, restored.detach())
        self.optimizer.zero_grad(set_to_none=True)
        restored.backward(gradient)
        apply_gradients(self.optimizer, self.trained, self.group)
        self.ema.update()
        return metrics

    def _restored(self, random_: torch.Generator) -> tuple[torch.Tensor, torch.Tensor]:
        """Crops [N, 3, H, W], and what the decoder makes of their latents under a little noise."""
        config = self.config
        count = self.group.batch_share(config.batch)
        images = random_crops(self.images, count, config.crop, random_, config.domain.symmetric)
        images = images.to(self.device)
        with autocast(config.precision, self.device):
            with torch.no_grad():
                latents = self.vae.encode(images).latent_dist.mode().float()
            strength = config.noise * torch.rand((len(images), 1, 1, 1), generator=random_)
            noise = strength * torch.randn(latents.shape, generator=random_)
            spread = latents.std(dim=(0, 2, 3), keepdim=True)
            latents = (latents + spread * noise.to(latents)).contiguous(memory_format=torch.channels_last)
            return images, self.vae.decode(latents).sample.float()

    def _reconstruction(self, images: torch.Tensor, restored: torch.Tensor) -> tuple[float, torch.Tensor]:
        """The loss without the discriminator, and its gradient with respect to `restored`."""
        free = restored.detach().requires_grad_(True)
        loss = reconstruction.pixel_loss(free, images)
        loss = loss + self.config.frequency * reconstruction.focal_frequency_loss(free, images)
        loss = loss + self.config.perceptual * reconstruction.perceptual_loss(self.levels, free, images)
        (gradient,) = torch.autograd.grad(loss, free)
        return float(loss.detach()), gradient


def replace(vae: AutoencoderKL, folder: Path) -> None:
    """Writes `vae` in the place of the one in `folder`, file by file: whoever is killed on the way leaves none in
    half."""
    written = folder / ".writing"  # of one name, so that the next attempt takes away what a killed one left
    vae.save_pretrained(written, safe_serialization=True)
    for file in written.iterdir():
        file.replace(folder / file.name)
    written.rmdir()
