"""The reward's gradient through the predicted clean image of a rated one that was noised again: no sampling at all."""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch

from training.data import dihedral
from training.methods.method import Chance
from training.objectives.reward_gradient import ddim_step, reward_gradient_loss
from training.pool import Pool
from training.student import Noised, Student


@dataclass(frozen=True)
class Guard:
    """Against errors of the reward: caution in standard deviations of its members, anchor to the parent's output."""

    caution: float
    anchor: float
    symmetric: bool
    """Whether images are turned at random, so that no pattern that fools the reward in one position pays."""


class RewardGradient:
    """latest, earliest: the timesteps between which images are noised. steps, stride: the gradient passes so many
    denoising steps of so many timesteps; 1 jumps to the predicted clean image."""

    def __init__(
        self,
        student: Student,
        pool: Pool,
        guard: Guard,
        *,
        batch: int,
        latest: int,
        earliest: int,
        steps: int,
        stride: int,
    ) -> None:
        self._student, self._pool, self._guard, self._batch = student, pool, guard, batch
        self._latest, self._earliest, self._steps, self._stride = latest, earliest, steps, stride

    def loss(self, chance: Chance) -> torch.Tensor:
        rows = chance.rows(self._pool, self._batch)
        clean, prompts = self._pool.latents[rows], self._pool.prompts_of(rows)
        timesteps = torch.randint(self._latest, self._earliest, (len(rows),), generator=chance.random)
        noise = torch.randn(clean.shape, generator=chance.random)
        noised = self._student.noised(clean, prompts, timesteps, noise)
        output, reference = self._student.says(noised), self._student.parent_says(noised)
        images = self._student.decode(self._followed(noised, output))
        images = dihedral(images, chance.random) if self._guard.symmetric else images
        return reward_gradient_loss(
            self._student.verdicts(images, prompts),
            output,
            reference,
            caution=self._guard.caution,
            anchor=self._guard.anchor,
        )

    def _followed(self, noised: Noised, output: torch.Tensor) -> torch.Tensor:
        """The clean latents after the steps that the gradient passes."""
        found = self._student.clean(output, noised.x, noised.timesteps)
        for _ in range(self._steps - 1):
            alpha = self._student.alphas[noised.timesteps].view(-1, 1, 1, 1)
            noise = (noised.x - alpha.sqrt() * found) / (1 - alpha).sqrt()
            timesteps = (noised.timesteps - self._stride).clamp(min=0)
            x = ddim_step(found, noise, self._student.alphas, timesteps)
            noised = replace(noised, x=x, timesteps=timesteps)
            found = self._student.clean(self._student.says(noised), x, timesteps)
        return found
