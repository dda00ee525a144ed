"""The reward's gradient through the predicted clean image of a rated one that was noised again: no sampling at all."""

from __future__ import annotations

from dataclasses import replace

import torch

from training.alignment.methods.guarded import GuardedReward
from training.alignment.methods.method import Method
from training.alignment.pool import Pool
from training.alignment.served import ServingDefaults
from training.alignment.step_rng import StepRng
from training.alignment.student import Noised, Student
from training.objectives.reward_gradient import ddim_step
from vouch.recipes import Alignment


class RewardGradient(Method):
    """Images are noised to between `min_timestep` and `max_timestep`; the gradient passes `gradient_steps` denoising
    steps of `stride` timesteps. 1 step jumps to the predicted clean image. Steps are guided as they are served."""

    def __init__(self, student: Student, pool: Pool, config: Alignment) -> None:
        self._student, self._pool = student, pool
        self._batch, self._settings = config.batch, config.reward_gradient
        self._reward = GuardedReward(student, config, self._settings.diversity)
        self._served = ServingDefaults.of(student, config)

    def loss(self, rng: StepRng) -> torch.Tensor:
        rows = rng.rows(self._pool, self._batch)
        clean, prompts = self._pool.latents[rows], self._pool.prompts_of(rows)
        cleanest, noisiest = self._settings.min_timestep, self._settings.max_timestep
        timesteps = torch.randint(cleanest, noisiest, (len(rows),), generator=rng.torch)
        noise = torch.randn(clean.shape, generator=rng.torch)
        noised = self._student.noised(clean, prompts, timesteps, noise)
        output = self._student.predict(noised)
        return self._reward.loss(self._followed(noised, output), prompts, noised, output, rng)

    def _followed(self, noised: Noised, output: torch.Tensor) -> torch.Tensor:
        """The clean latents after the steps that the gradient passes."""
        clean = self._student.clean(self._guided(noised, output), noised.x, noised.timesteps)
        for _ in range(self._settings.gradient_steps - 1):
            alpha = self._student.alphas[noised.timesteps].view(-1, 1, 1, 1)
            noise = (noised.x - alpha.sqrt() * clean) / (1 - alpha).sqrt()
            timesteps = (noised.timesteps - self._settings.stride).clamp(min=0)
            x = ddim_step(clean, noise, self._student.alphas, timesteps)
            noised = replace(noised, x=x, timesteps=timesteps)
            clean = self._student.clean(self._guided(noised, self._student.predict(noised)), x, timesteps)
        return clean

    def _guided(self, noised: Noised, output: torch.Tensor) -> torch.Tensor:
        """No gradient passes what guidance leads away from: it would gain by spoiling that."""
        scale = self._served.scales(noised.timesteps, len(self._student.alphas))
        if (scale == 1).all():
            return output
        with torch.no_grad():
            bare = replace(noised, embedded=self._student.embed([""] * len(noised.x)))
            without = self._student.predict(bare)
        return without + scale * (output - without)
