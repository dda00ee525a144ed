"""The decoder of an autoencoder in training."""

from __future__ import annotations

import torch
from torch.nn import functional as F

from training.data.examples import Examples
from training.evaluation.codec import load_autoencoder
from training.loop.ema import Ema
from training.loop.gradient_step import apply_gradients
from training.loop.learning_rates import warm_up
from training.loop.progress import Metric
from training.loop.session import TrainingSession
from training.loop.trainer import Trainer
from training.objectives import reconstruction
from training.pretraining.adversary import Adversary
from training.pretraining.autoencoder_trainer import random_crops
from training.pretraining.config import DecoderConfig
from training.pretraining.discriminator import Discriminator, FeatureDiscriminator, Observed, blurred
from training.pretraining.perceptual import feature_levels, feature_maps, imagenet_levels
from training.pretraining.precision import autocast
from training.randomness import tensors

SAMPLE = 256
"""Crops from which the scale of features is taken."""
DETAIL = 9
"""Pixels: what is broader is left to the pixel loss."""


class DecoderTrainer(Trainer):
    """The decoder of an autoencoder whose encoder is frozen, and the discriminator that it learns against.

    drawn: latents [N, C, h, w] of no image. They are decoded too, and the discriminator alone says what they lack.
    """

    parts = ("decoder", "optimizer", "ema", "adversary")

    def __init__(
        self,
        config: DecoderConfig,
        examples: Examples,
        session: TrainingSession,
        drawn: torch.Tensor | None = None,
    ) -> None:
        self.config, self.images, self.group = config, examples.images, session.group
        self.device = session.device
        self.drawn = None if drawn is None else drawn.to(session.device)
        self.vae = load_autoencoder(config.generator).to(self.device)
        self.decoder = torch.nn.ModuleList([self.vae.decoder, self.vae.post_quant_conv]).requires_grad_(True)
        self.levels = feature_levels(config.features, self.device) or imagenet_levels(self.device)
        self.adversary = self._adversary()
        self.trained = list(self.decoder.parameters())
        self.parameters = [*self.trained, *self.adversary.parameters]
        self.optimizer = torch.optim.AdamW(self.trained, lr=config.lr, betas=(0.9, 0.99), weight_decay=0.0)
        self.ema = Ema([self.decoder], 0.998)

    def rate(self, done: float, step: int) -> float:
        """Linear warm-up over 20 steps, and a linear fall to nothing over the second half."""
        return min(warm_up(step, 20), 2 * (1.0 - max(done, step / self.config.steps)) + 0.01)

    def step(self, step: int, done: float) -> dict[str, Metric]:
        del done
        images, decoded = self._decoded(tensors(self.group.rank_seed(self.config.seed), "decoder", step))
        real, fake = self._observed(images), self._observed(decoded.detach().requires_grad_(True))
        loss, gradient = self._reconstruction(real, fake)
        error = (decoded[: len(images)].detach() - images).abs().mean() * 127.5
        metrics: dict[str, Metric] = {"loss": loss, "error_255": error}
        if self.config.adversarial:
            if step > self.config.adversarial_after:
                last = self.vae.decoder.conv_out.weight
                gradient = gradient + of_detail(self.adversary.gradient(fake, decoded, gradient, last))
            metrics["discriminator_loss"] = self.adversary.update(real, fake)
        self.optimizer.zero_grad(set_to_none=True)
        decoded.backward(gradient)
        apply_gradients(self.optimizer, self.trained, self.group)
        self.ema.update()
        return metrics

    def _adversary(self) -> Adversary:
        config = self.config
        sample = random_crops(
            self.images, SAMPLE, config.crop, tensors(config.seed, "sample"), config.symmetric
        )
        return Adversary(
            Discriminator(FeatureDiscriminator(self._observed(sample.to(self.device)).maps)),
            lr=config.discriminator_lr,
            weight=config.adversarial,
            precision=config.precision,
            device=self.device,
            group=self.group,
        )

    def _decoded(self, random_: torch.Generator) -> tuple[torch.Tensor, torch.Tensor]:
        """Crops [N, 3, H, W], and what the decoder makes of their latents under a little noise [N, 3, H, W]; after
        these, where there are drawn latents, of as many of them [2N, 3, H, W]."""
        config = self.config
        count = self.group.batch_share(config.batch)
        images = random_crops(self.images, count, config.crop, random_, config.symmetric)
        images = images.to(self.device)
        with autocast(config.precision, self.device):
            with torch.no_grad():
                latents = self.vae.encode(images).latent_dist.mode().float()
            strength = config.noise * torch.rand((len(images), 1, 1, 1), generator=random_)
            noise = strength * torch.randn(latents.shape, generator=random_)
            spread = latents.std(dim=(0, 2, 3), keepdim=True)
            latents = latents + spread * noise.to(latents)
            if self.drawn is not None:
                latents = torch.cat([latents, windows(self.drawn, count, latents.shape[-1], random_)])
            latents = latents.contiguous(memory_format=torch.channels_last)
            return images, self.vae.decode(latents).sample.float()

    def _observed(self, images: torch.Tensor) -> Observed:
        return Observed(images, feature_maps(self.levels, images))

    def _reconstruction(self, real: Observed, fake: Observed) -> tuple[torch.Tensor, torch.Tensor]:
        """The loss without the discriminator, and its gradient with respect to the decoded images. Of drawn ones nobody
        knows how they should look: theirs is nothing."""
        config, count = self.config, len(real.images)
        decoded, fake = fake.images, fake.first(count)
        halves = (F.avg_pool2d(one.images, 2) for one in (fake, real))
        loss = reconstruction.pixel_loss(*halves)
        loss = loss + config.detail * reconstruction.pixel_loss(fake.images, real.images)
        loss = loss + config.frequency * reconstruction.focal_frequency_loss(fake.images, real.images)
        loss = loss + config.perceptual * reconstruction.perceptual_loss(fake.maps, real.maps)
        # The graph is kept: the adversary's gradient goes through the same maps.
        (gradient,) = torch.autograd.grad(loss, decoded, retain_graph=True)
        return loss.detach(), gradient


def windows(latents: torch.Tensor, count: int, side: int, random_: torch.Generator) -> torch.Tensor:
    """`count` windows [count, C, side, side] of latents [N, C, h, w]."""
    rows = torch.randint(0, len(latents), (count,), generator=random_)
    corners = torch.randint(0, latents.shape[-1] - side + 1, (count, 2), generator=random_).tolist()
    return torch.stack(
        [latents[row, :, y : y + side, x : x + side] for row, (y, x) in zip(rows, corners, strict=True)]
    )


def of_detail(gradient: torch.Tensor) -> torch.Tensor:
    """Without its means over `DETAIL`×`DETAIL` pixels. A discriminator may add detail that latents do not hold, and not
    change colours, which they do: it drew the tint of a stain towards that of most images."""
    return gradient - blurred(gradient, DETAIL)
