"""Prior preservation: images that the base draws before it learns, and what is kept of them while it does."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch

from training.adaptation.config import AdaptConfig
from training.adaptation.foundation import Foundation
from training.adaptation.latents import LatentSource
from training.adaptation.tuning import Tuning
from training.loop.session import TrainingSession
from training.objectives import denoising
from training.randomness import numbers, tensors
from vouch.errors import InvalidInput

PRIOR_FILE = "prior.npy"
FIRST_SEED = 80_000
DRAWN_AT_ONCE = 16
WATCHED = 32
"""Images on which forgetting is measured, at the most."""


@dataclass(frozen=True)
class PriorImages:
    """Latents of images that the base drew, in the order of their prompts."""

    latents: LatentSource
    prompts: tuple[str, ...]


def prior_prompts(base: Foundation, config: AdaptConfig) -> tuple[str, ...]:
    """A prompt for each image to draw, in turn those of the settings or else all labels that the base knows.

    Raises:
        InvalidInput: neither says what the base knows.
    """
    known = config.prior.prompts or (base.vocabulary.labels if base.vocabulary else ())
    if not known:
        raise InvalidInput(
            "The base does not list what it knows, so say what it is to keep: --prior.prompts "
            '\'["a photo of a dog", "a street at night"]\'.',
            "NO_PRIOR_PROMPTS",
        )
    return tuple(known[number % len(known)] for number in range(config.prior.images))


def draw_prior(base: Foundation, prompts: Sequence[str], session: TrainingSession) -> torch.Tensor:
    """uint8 [N, 3, S, S], drawn with the sampler, steps and guidance of serving; kept in the run's folder."""
    path = session.folder / PRIOR_FILE
    if not session.group.broadcast_scalar(path.is_file()):
        drawn = _drawn(base, prompts, session)
        if session.group.is_rank_zero:
            with path.with_suffix(".tmp").open("wb") as file:
                np.save(file, drawn)
            path.with_suffix(".tmp").replace(path)
        session.group.broadcast_scalar(True)
    return torch.from_numpy(np.load(path, allow_pickle=False)).permute(0, 3, 1, 2).contiguous()


def _drawn(base: Foundation, prompts: Sequence[str], session: TrainingSession) -> np.ndarray:
    generator, parts = base.generator, []
    for start in range(0, len(prompts), DRAWN_AT_ONCE):
        session.report(start, len(prompts), "drawing what is to be kept")
        some = list(prompts[start : start + DRAWN_AT_ONCE])
        seeds = [FIRST_SEED + start + number for number in range(len(some))]
        parts.append(generator.generate(some, seeds, generator.default_steps, generator.default_guidance))
    return np.concatenate(parts)


class Forgetting:
    """How far a model has gone from its base on the base's own images and prompts, at fixed noise and timesteps.

    It is made before anything is learned: what the model says then is what the base says.
    """

    def __init__(self, tuning: Tuning, prior: PriorImages, seed: int) -> None:
        self._tuning = tuning
        rng, random_ = numbers(seed, "forgetting"), tensors(seed, "forgetting")
        rows = rng.sample(range(len(prior.prompts)), min(WATCHED, len(prior.prompts)))
        self._prompts = [prior.prompts[row] for row in rows]
        clean = prior.latents.clean(rows, [0] * len(rows), random_)
        noise = torch.randn(clean.shape, generator=random_)
        base = tuning.base
        self._timesteps = ((torch.arange(len(rows)) + 0.5) / len(rows) * len(base.alphas)).long()
        self._x = denoising.noised(clean, noise, base.alphas, self._timesteps)
        self._wanted = denoising.target(base.prediction, clean, noise, base.alphas, self._timesteps)
        self._before = self._said()

    def figures(self) -> dict[str, float]:
        """forgetting: mean squared distance to what the base says. kept_loss_ratio: the denoising error on the base's
        own images, after ÷ before; above 1 the model has forgotten."""
        now = self._said()
        errors = [
            float(denoising.per_sample_error(said, self._wanted).mean()) for said in (now, self._before)
        ]
        return {
            "forgetting": float(denoising.per_sample_error(now, self._before).mean()),
            "kept_loss_ratio": errors[0] / max(errors[1], 1e-12),
        }

    @torch.no_grad()
    def _said(self) -> torch.Tensor:
        base = self._tuning.base
        with base.autocast():
            said = self._tuning.predict(self._x.to(base.device), self._timesteps, self._prompts)
        return said.float().cpu()
