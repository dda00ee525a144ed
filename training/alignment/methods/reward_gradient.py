"""The reward's gradient through the predicted clean image of a rated one that was noised again: no sampling at all."""

from __future__ import annotations

from dataclasses import replace

import torch

from training.alignment.methods.guarded import GuardedReward
from training.alignment.methods.method import Chance
from training.alignment.pool import Pool
from training.alignment.served import Served
from training.alignment.student import Noised, Student
from training.objectives.reward_gradient import ddim_step
from vouch.recipes import Alignment


class RewardGradient:
    """Images are noised to between `latest` and `earliest`; the gradient passes `gradient_steps` denoising steps of
    `stride` timesteps, 1 of which jumps to the predicted clean image. Steps are guided as they are served."""

    def __init__(self, student: Student, pool: Pool, config: Alignment) -> None:
        self._student, self._pool, self._config = student, pool, config
        self._reward, self._served = GuardedReward(student, config), Served.of(student, config)

    def loss(self, chance: Chance) -> torch.Tensor:
        config, rows = self._config, chance.rows(self._pool, self._config.batch)
        clean, prompts = self._pool.latents[rows], self._pool.prompts_of(rows)
        timesteps = torch.randint(config.latest, config.earliest, (len(rows),), generator=chance.random)
        noise = torch.randn(clean.shape, generator=chance.random)
        noised = self._student.noised(clean, prompts, timesteps, noise)
        output = self._student.says(noised)
        return self._reward.loss(self._followed(noised, output), prompts, noised, output, chance)

    def _followed(self, noised: Noised, output: torch.Tensor) -> torch.Tensor:
        """The clean latents after the steps that the gradient passes."""
        found = self._student.clean(self._guided(noised, output), noised.x, noised.timesteps)
        for _ in range(self._config.gradient_steps - 1):
            alpha = self._student.alphas[noised.timesteps].view(-1, 1, 1, 1)
            noise = (noised.x - alpha.sqrt() * found) / (1 - alpha).sqrt()
            timesteps = (noised.timesteps - self._config.stride).clamp(min=0)
            x = ddim_step(found, noise, self._student.alphas, timesteps)
            noised = replace(noised, x=x, timesteps=timesteps)
            found = self._student.clean(self._guided(noised, self._student.says(noised)), x, timesteps)
        return found

    def _guided(self, noised: Noised, output: torch.Tensor) -> torch.Tensor:
        """No gradient passes what guidance leads away from: it would gain by spoiling that."""
        scale = self._served.scales(noised.timesteps, len(self._student.alphas))
        if (scale == 1).all():
            return output
        with torch.no_grad():
            bare = replace(noised, embedded=self._student.embed([""] * len(noised.x)))
            without = self._student.says(bare)
        return without + scale * (output - without)
