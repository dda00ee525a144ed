"""The decoder of an autoencoder in training."""

from __future__ import annotations

import torch
from diffusers import AutoencoderKL

from training.data.augmentation import to_unit
from training.data.examples import Examples
from training.loop.ema import Ema
from training.loop.gradient_step import gradient_step
from training.loop.learning_rates import warm_up
from training.loop.session import TrainingSession
from training.loop.trainer import Trainer
from training.objectives.reconstruction import perceptual_loss, pixel_loss
from training.pretraining.config import DecoderConfig
from training.randomness import tensors
from vouch.models.networks.attributes import AttributeNet


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
