"""Autoencoder and discriminator in training."""

from __future__ import annotations

import torch
from torch.nn import functional as F

from training.data.augmentation import dihedral, to_unit, turned
from training.loop.ema import Ema
from training.loop.gradient_step import apply_gradients
from training.loop.learning_rates import cosine
from training.loop.progress import Metric
from training.loop.session import TrainingSession
from training.loop.trainer import Trainer
from training.objectives import reconstruction
from training.pretraining.adversary import Adversary
from training.pretraining.captioned import Captioned
from training.pretraining.config import PretrainConfig
from training.pretraining.discriminator import Discriminator, Observed
from training.pretraining.networks import build_vae
from training.pretraining.perceptual import feature_levels, feature_maps
from training.pretraining.precision import autocast
from training.randomness import numbers, tensors


class AutoencoderTrainer(Trainer):
    """Autoencoder and discriminator, their optimisers and averages, and one step of both."""

    parts = ("vae", "optimizer", "adversary", "ema")

    def __init__(self, config: PretrainConfig, examples: Captioned, session: TrainingSession) -> None:
        self.config, self.group, self.device = config, session.group, session.device
        self.images = examples.images
        self.vae = build_vae(config, examples.images.shape[-1]).to(
            self.device, memory_format=torch.channels_last
        )
        self.optimizer = torch.optim.AdamW(
            self.vae.parameters(), lr=config.vae_lr, betas=(0.9, 0.99), weight_decay=1e-4
        )
        self.adversary = Adversary(
            Discriminator(),
            lr=config.discriminator_lr,
            weight=config.adversarial_weight,
            precision=config.precision,
            device=self.device,
            group=self.group,
        )
        self.ema = Ema([self.vae], config.vae_ema)
        self.parameters = [*self.vae.parameters(), *self.adversary.parameters]
        self.levels = feature_levels(config.vae_features, self.device)

    def rate(self, done: float, step: int) -> float:
        return cosine(done, step, self.config.vae_warmup)

    def step(self, step: int, done: float) -> dict[str, Metric]:
        """One update of the autoencoder and, from `adversarial_from` of the run on, one of the discriminator."""
        config, name = self.config, (self.group.rank_seed(self.config.seed), "vae", step)
        random_ = tensors(*name)
        count = self.group.batch_share(config.vae_batch)
        batch = random_crops(self.images, count, config.vae_crop, random_, config.symmetric).to(self.device)
        half_size = numbers(*name, "scale").random() < config.equivariance
        with autocast(config.precision, self.device):
            restored, wanted, kl = self._restore(batch, half_size, random_)
        restored = restored.float()
        adversarial = done >= config.adversarial_from and not half_size
        free = restored.detach().requires_grad_(True)
        loss, gradient = self._reconstruction(free, wanted, done)
        metrics: dict[str, Metric] = {"loss": loss.detach(), "kl": kl.detach()}
        if adversarial:
            last = self.vae.decoder.conv_out.weight
            gradient = gradient + self.adversary.gradient(Observed(free), restored, gradient, last)
        self.optimizer.zero_grad(set_to_none=True)
        torch.autograd.backward([restored, config.kl_weight * kl], [gradient, None])
        apply_gradients(self.optimizer, list(self.vae.parameters()), self.group)
        self.ema.update()
        if adversarial:
            metrics["discriminator_loss"] = self.adversary.update(Observed(wanted), Observed(free))
        return {**metrics, "error_255": (restored.detach() - wanted).abs().mean() * 127.5}

    def _restore(
        self, batch: torch.Tensor, half_size: bool, random_: torch.Generator
    ) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """Decoded images, what they should be, and the KL divergence per latent value.

        Latents are turned, or halved in size, before they are decoded, and so are the images (EQ-VAE, arXiv
        2502.09509): latents that behave like small images are easier for the U-Net. A little noise upon them teaches
        the decoder to bear the U-Net's own small errors.
        """
        posterior = self.vae.encode(batch).latent_dist
        latents = posterior.mean + posterior.std * _noise(posterior.mean, random_)
        kl = posterior.kl().mean() / posterior.mean[0].numel()
        strength = self.config.latent_noise * torch.rand((len(batch), 1, 1, 1), generator=random_)
        scale = latents.detach().std(dim=(0, 2, 3), keepdim=True)
        latents = latents + strength.to(latents) * scale * _noise(latents, random_)
        if half_size:
            latents, batch = F.avg_pool2d(latents, 2), F.avg_pool2d(batch, 2)
        elif self.config.symmetric:
            turn = int(torch.randint(0, 8, (1,), generator=random_))
            latents, batch = turned(latents, turn), turned(batch, turn)
        latents = latents.contiguous(memory_format=torch.channels_last)
        return self.vae.decode(latents).sample, batch.contiguous(memory_format=torch.channels_last), kl

    def _reconstruction(
        self, free: torch.Tensor, wanted: torch.Tensor, done: float
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """The loss and its gradient with respect to the restored images. Features and frequencies join late: from the
        start they only slow the pixels down."""
        config = self.config
        loss = reconstruction.pixel_loss(free, wanted)
        if done >= config.perceptual_from:
            loss = loss + config.frequency_weight * reconstruction.focal_frequency_loss(free, wanted)
            if self.levels:
                maps = [feature_maps(self.levels, one) for one in (free, wanted)]
                loss = loss + config.perceptual_weight * reconstruction.perceptual_loss(*maps)
        (gradient,) = torch.autograd.grad(loss, free)
        return loss, gradient


def random_crops(
    images: torch.Tensor, count: int, side: int, random_: torch.Generator, symmetric: bool
) -> torch.Tensor:
    """`count` crops of uint8 images [N, 3, H, W], turned where that means the same: float [count, 3, side, side] in
    [-1, 1]."""
    rows = torch.randint(0, len(images), (count,), generator=random_)
    side = min(side, images.shape[-1])
    corners = torch.randint(0, images.shape[-1] - side + 1, (count, 2), generator=random_).tolist()
    crops = torch.stack(
        [images[row, :, y : y + side, x : x + side] for row, (y, x) in zip(rows, corners, strict=True)]
    )
    crops = dihedral(crops, random_) if symmetric else crops
    return to_unit(crops).contiguous(memory_format=torch.channels_last)


def _noise(like: torch.Tensor, random_: torch.Generator) -> torch.Tensor:
    return torch.randn(like.shape, generator=random_).to(like)
