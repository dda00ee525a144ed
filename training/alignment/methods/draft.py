"""DRaFT: the reward's gradient through the last steps of the sampler (Clark et al. 2023, arXiv 2309.17400)."""

from __future__ import annotations

import torch

from training.alignment.methods.guarded import GuardedReward
from training.alignment.methods.method import Chance
from training.alignment.pool import Pool
from training.alignment.student import Student
from training.alignment.walk import Walker
from vouch.recipes import Alignment


class Draft:
    """DRaFT-K passes the gradient through the last `gradient_steps`. With views > 0 it is DRaFT-LV (section 3.3):
    through the last step alone, from so many noised copies of each clean image, for less variance at the cost of one
    sampling.

    Prompts are those of the rated images.
    """

    def __init__(self, student: Student, pool: Pool, config: Alignment) -> None:
        self._student, self._pool, self._config = student, pool, config
        self._reward = GuardedReward(student, config)
        self._walker = Walker(student, config.sample_steps, guidance=config.guidance)

    def loss(self, chance: Chance) -> torch.Tensor:
        prompts = self._pool.prompts_of(chance.rows(self._pool, self._config.batch))
        last = 0 if self._config.views else self._config.gradient_steps
        drawn = self._walker.walk(prompts, chance.random, last).clean
        found = [self._again(drawn, prompts, chance) for _ in range(self._config.views)] or [drawn]
        return torch.stack([self._guarded(one, prompts, chance) for one in found]).mean()

    def _again(self, drawn: torch.Tensor, prompts: list[str], chance: Chance) -> torch.Tensor:
        """One view: noised to where the last step begins, and predicted clean again."""
        timesteps = torch.full((len(drawn),), max(int(self._walker.path.timestep[-1]), 1))
        noise = torch.randn(drawn.shape, generator=chance.random)
        noised = self._student.noised(drawn, prompts, timesteps, noise)
        return self._student.clean(self._student.says(noised), noised.x, timesteps)

    def _guarded(self, found: torch.Tensor, prompts: list[str], chance: Chance) -> torch.Tensor:
        """With the guards on the image noised to any timestep, for all of them share the weights."""
        clean = found.detach()
        noised = self._student.noised(clean, prompts, *self._student.noise(clean, chance.random))
        return self._reward.loss(found, prompts, noised, self._student.says(noised), chance)
