"""DRaFT: the reward's gradient through the last steps of the sampler (Clark et al. 2023, arXiv 2309.17400)."""

from __future__ import annotations

import torch

from training.alignment.methods.guarded import GuardedReward, numbered
from training.alignment.methods.method import Method
from training.alignment.pool import Pool
from training.alignment.served import ServingDefaults
from training.alignment.step_rng import StepRng
from training.alignment.student import Student
from training.objectives.guards import dispersion
from vouch.recipes import Alignment


class Draft(Method):
    """DRaFT-K passes the gradient through the last `gradient_steps`. With views > 0 it is DRaFT-LV (section 3.3):
    through the last step alone, from so many noised copies of each clean image, for less variance at the cost of one
    sampling.

    Prompts are those of the rated images. Images are drawn as they are served, in `sample_steps` where that is set.
    With `novelty` a batch is of few prompts, and pays for differing less, in the reward's features, than images of one
    prompt did before.
    """

    def __init__(self, student: Student, pool: Pool, config: Alignment) -> None:
        self._student, self._pool, self._config, self._settings = student, pool, config, config.draft
        self._sampler = ServingDefaults.of(student, config).sampler(student, self._settings.sample_steps)
        diversity, novelty = self._settings.diversity, self._settings.novelty
        usual_spread = self._usual_spread() if novelty else 0.0
        self._reward = GuardedReward(student, config, diversity, novelty, usual_spread)

    def loss(self, rng: StepRng) -> torch.Tensor:
        prompts = self._prompts(rng, self._config.batch)
        last = 0 if self._settings.views else self._settings.gradient_steps
        drawn = self._sampler.sample(prompts, rng.torch, last).clean
        views = [self._again(drawn, prompts, rng) for _ in range(self._settings.views)] or [drawn]
        return torch.stack([self._guarded(view, prompts, rng) for view in views]).mean()

    def _prompts(self, rng: StepRng, count: int) -> list[str]:
        if not self._settings.novelty:
            return self._pool.prompts_of(rng.rows(self._pool, count))
        groups = min(self._settings.groups, max(1, count // 2))
        chosen = self._pool.prompts_of(rng.rows(self._pool, groups))
        return [chosen[place % groups] for place in range(count)]

    @torch.no_grad()
    def _usual_spread(self) -> float:
        """How different images of one prompt are before anything is learned."""
        rng = StepRng.of(self._config.seed, 0)
        prompts = self._prompts(rng, self._config.validation.images)
        images = self._student.decode(self._sampler.sample(prompts, rng.torch).clean)
        return float(dispersion(self._student.features(images), numbered(prompts)).mean())

    def _again(self, drawn: torch.Tensor, prompts: list[str], rng: StepRng) -> torch.Tensor:
        """One view: noised to where the last step begins, and predicted clean again."""
        timesteps = torch.full((len(drawn),), max(int(self._sampler.trajectory.timestep[-1]), 1))
        noise = torch.randn(drawn.shape, generator=rng.torch)
        noised = self._student.noised(drawn, prompts, timesteps, noise)
        return self._student.clean(self._student.predict(noised), noised.x, timesteps)

    def _guarded(self, latents: torch.Tensor, prompts: list[str], rng: StepRng) -> torch.Tensor:
        """With the guards on the image noised to any timestep, for all of them share the weights."""
        clean = latents.detach()
        noised = self._student.noised(clean, prompts, *self._student.noise(clean, rng.torch))
        return self._reward.loss(latents, prompts, noised, self._student.predict(noised), rng)
