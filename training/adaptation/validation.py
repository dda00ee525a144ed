"""The validation loss of an adaptation: when to stop, and which weights to keep."""

from __future__ import annotations

import torch

from training.adaptation.data import CaptionedSet
from training.adaptation.latents import LatentSource
from training.adaptation.tuning import Tuning
from training.objectives import denoising
from training.randomness import numbers, tensors


class ValidationLoss:
    """The denoising loss of images of patients apart: the same images, captions, noise and timesteps every time.

    Timesteps are spread evenly over the schedule, so that few images measure all of it.
    """

    def __init__(
        self, tuning: Tuning, data: CaptionedSet, latents: LatentSource, count: int, seed: int
    ) -> None:
        self._tuning = tuning
        rng, random_ = numbers(seed, "validation"), tensors(seed, "validation")
        rows = rng.sample(range(len(data)), min(count, len(data)))
        self._captions = [tuning.worded(data.captions[row][0]) for row in rows]
        self._clean = latents.clean(rows, [0] * len(rows), random_)
        self._noise = torch.randn(self._clean.shape, generator=random_)
        levels = len(tuning.base.alphas)
        self._timesteps = ((torch.arange(len(rows)) + 0.5) / len(rows) * levels).long()

    def __len__(self) -> int:
        return len(self._captions)

    @torch.no_grad()
    def __call__(self, batch: int = 16) -> float:
        """Mean squared error of what the network should say."""
        errors = [self._errors(slice(start, start + batch)) for start in range(0, len(self), batch)]
        return float(torch.cat(errors).mean())

    def _errors(self, part: slice) -> torch.Tensor:
        base, timesteps = self._tuning.base, self._timesteps[part]
        clean, noise = self._clean[part], self._noise[part]
        x = denoising.noised(clean, noise, base.alphas, timesteps).to(base.device)
        wanted = denoising.target(base.prediction, clean, noise, base.alphas, timesteps)
        with base.autocast():
            output = self._tuning.predict(x, timesteps, self._captions[part])
        return denoising.per_sample_error(output, wanted.to(output.device)).cpu()
