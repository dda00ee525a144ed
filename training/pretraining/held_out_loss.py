"""The denoising loss of held-out images."""

from __future__ import annotations

import torch

from training.pretraining.captioned import Captioned
from training.pretraining.config import PretrainConfig
from training.pretraining.denoising import draw_caption, draw_timesteps, velocity_error
from training.pretraining.networks import Networks
from training.pretraining.precision import autocast
from training.randomness import numbers, tensors


class HeldOutLoss:
    """The denoising loss of held-out images: the same images, captions, noise and timesteps every time."""

    def __init__(
        self, config: PretrainConfig, networks: Networks, examples: Captioned, latents: torch.Tensor
    ) -> None:
        self.config, self.networks = config, networks
        rng, random_ = numbers(config.seed, "validation"), tensors(config.seed, "validation")
        count = min(config.validated, latents.shape[1])
        rows = torch.randperm(latents.shape[1], generator=random_)[:count]
        self.clean = latents[0, rows].float().to(networks.device)
        self.captions = [draw_caption(examples, int(row), 0.0, rng) for row in rows]
        self.noise = torch.randn(self.clean.shape, generator=random_).to(self.clean)
        self.timesteps = draw_timesteps(count, config, random_)

    @torch.no_grad()
    def loss(self, batch: int = 64) -> float:
        """Mean velocity error over the held-out images."""
        modes = [(module, module.training) for module in self.networks.trained]
        for module, _ in modes:
            module.eval()
        errors = [self._errors(slice(start, start + batch)) for start in range(0, len(self.clean), batch)]
        for module, training in modes:
            module.train(training)
        return float(torch.cat(errors).mean())

    def _errors(self, part: slice) -> torch.Tensor:
        with autocast(self.config.precision, self.networks.device):
            prompts = self.networks.embed(self.captions[part])
            return velocity_error(
                self.networks,
                self.networks.unet,
                self.clean[part],
                self.noise[part],
                self.timesteps[part],
                prompts,
            )
