"""The autoencoder of a foundation model in training: the recipe `vae`."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

from training.adaptation.config import AdaptConfig
from training.adaptation.data import CaptionedSet
from training.adaptation.foundation import Foundation
from training.adaptation.validated import ValidatedTrainer
from training.data.augmentation import to_unit
from training.loop.gradient_step import gradient_step
from training.loop.session import TrainingSession
from training.objectives import reconstruction
from training.pretraining.autoencoder_trainer import random_crops
from training.randomness import tensors

LR = 3e-4


def learning_parts(vae: Any, part: str) -> list[nn.Parameter]:
    """The weights that learn: those of the decoder and of the convolution before it, or all."""
    chosen = (vae,) if part == "all" else (vae.decoder, vae.post_quant_conv)
    return [weight for one in chosen if one is not None for weight in one.requires_grad_(True).parameters()]


class RestorationLoss:
    """Pixel loss of images that validate, whole: the same every time."""

    def __init__(self, base: Foundation, images: torch.Tensor, count: int) -> None:
        self._base, self._images = base, images[:count]

    def __len__(self) -> int:
        return len(self._images)

    @torch.no_grad()
    def __call__(self) -> float:
        losses = []
        for batch in self._images.split(16):
            images = to_unit(batch).to(self._base.device)
            restored = self._base.pipe.vae(images, sample_posterior=False).sample
            losses.append(float(reconstruction.pixel_loss(restored.float(), images)) * len(batch))
        return sum(losses) / len(self._images)


class AutoencoderTuner(ValidatedTrainer):
    """The decoder, or all of an autoencoder, on random crops: pixels, edges and frequencies.

    kept: uint8 [N, 3, S, S], images that the base drew, which it is to restore as well as before.
    """

    def __init__(
        self,
        base: Foundation,
        data: CaptionedSet,
        config: AdaptConfig,
        session: TrainingSession,
        kept: torch.Tensor | None = None,
    ) -> None:
        self.base, self.images, self.kept = base, data.of("train").images, kept
        validating = data.of("val").images
        validation = RestorationLoss(base, validating, config.validated) if len(validating) else None
        weights = learning_parts(base.pipe.vae, config.vae.part)
        if config.checkpointing:
            base.pipe.vae.enable_gradient_checkpointing()
        lr = LR if config.lr is None else config.lr
        super().__init__([{"params": weights, "lr": lr}], validation, config, session)

    def step(self, step: int, done: float) -> dict[str, float]:
        del done
        config, vae = self.config, self.base.pipe.vae
        random_ = tensors(self.group.rank_seed(config.seed), "vae", step)
        images, own = self._batch(random_)
        with self.base.autocast():
            posterior = vae.encode(images).latent_dist
            noise = torch.randn(posterior.mean.shape, generator=random_).to(posterior.mean)
            restored = vae.decode(posterior.mean + posterior.std * noise).sample.float()
        loss = self._loss(restored[:own], images[:own])
        if self.kept is not None:
            loss = loss + config.prior.weight * self._loss(restored[own:], images[own:])
        if config.vae.part == "all":
            loss = loss + config.vae.kl * posterior.kl().mean() / posterior.mean[0].numel()
        gradient_step(loss, self.optimizer, self.parameters, self.group)
        if self.ema:
            self.ema.update()
        error = float((restored[:own].detach() - images[:own]).abs().mean()) * 127.5
        return {"loss": float(loss.detach()), "error_255": error, "lr": self.optimizer.param_groups[0]["lr"]}

    def _batch(self, random_: torch.Generator) -> tuple[torch.Tensor, int]:
        """Crops [N, 3, H, W] in [-1, 1]; first the domain's own, whose number is told, then what is kept."""
        config = self.config
        own = self.group.batch_share(config.batch)
        crops = random_crops(self.images, own, config.vae.crop, random_, config.symmetric)
        if self.kept is not None:
            count = max(1, round(own * config.prior.share))
            more = random_crops(self.kept, count, config.vae.crop, random_, symmetric=False)
            crops = torch.cat([crops, more])
        return crops.to(self.base.device), own

    def _loss(self, restored: torch.Tensor, images: torch.Tensor) -> torch.Tensor:
        frequency = self.config.vae.frequency * reconstruction.focal_frequency_loss(restored, images)
        return reconstruction.pixel_loss(restored, images) + frequency
