"""DRaFT: the reward's gradient through the last steps of the sampler (Clark et al. 2023, arXiv 2309.17400)."""

from __future__ import annotations

import torch

from training.data import dihedral
from training.methods.method import Chance
from training.methods.reward_gradient import Guard
from training.objectives.reward_gradient import reward_gradient_loss
from training.pool import Pool
from training.student import Student
from training.walk import Walker


class Draft:
    """DRaFT-K passes the gradient through the last `last` steps. With views > 0 it is DRaFT-LV (section 3.3): through
    the last step alone, from so many noised copies of each clean image, for less variance at the cost of one sampling.

    Prompts are those of the rated images.
    """

    def __init__(
        self, student: Student, pool: Pool, guard: Guard, *, batch: int, steps: int, last: int, views: int
    ) -> None:
        self._student, self._pool, self._guard = student, pool, guard
        self._batch, self._last, self._views = batch, last, views
        self._walker = Walker(student, steps)

    def loss(self, chance: Chance) -> torch.Tensor:
        prompts = self._pool.prompts_of(chance.rows(self._pool, self._batch))
        if self._views:
            clean = self._walker.walk(prompts, chance.random).clean
            losses = [self._again(clean, prompts, chance) for _ in range(self._views)]
            return torch.stack(losses).mean()
        walk = self._walker.walk(prompts, chance.random, self._last)
        return self._rewarded(walk.clean, prompts, chance) + self._guard.anchor * self._distance(
            walk.clean.detach(), prompts, chance
        )

    def _again(self, clean: torch.Tensor, prompts: list[str], chance: Chance) -> torch.Tensor:
        """One view: noised to where the last step begins, and predicted clean again."""
        timestep = int(self._walker.path.timestep[-1])
        timesteps = torch.full((len(clean),), max(timestep, 1))
        noise = torch.randn(clean.shape, generator=chance.random)
        noised = self._student.noised(clean, prompts, timesteps, noise)
        found = self._student.clean(self._student.says(noised), noised.x, timesteps)
        return self._rewarded(found, prompts, chance) + self._guard.anchor * self._distance(
            clean, prompts, chance
        )

    def _rewarded(self, latents: torch.Tensor, prompts: list[str], chance: Chance) -> torch.Tensor:
        images = self._student.decode(latents)
        images = dihedral(images, chance.random) if self._guard.symmetric else images
        verdicts = self._student.verdicts(images, prompts)
        return reward_gradient_loss(
            verdicts, latents, latents.detach(), caution=self._guard.caution, anchor=0.0
        )

    def _distance(self, clean: torch.Tensor, prompts: list[str], chance: Chance) -> torch.Tensor:
        """Of the student's output from the parent's, on the images noised to any timestep."""
        noised = self._student.noised(clean, prompts, *self._student.noise(clean, chance.random))
        return torch.nn.functional.mse_loss(self._student.says(noised), self._student.parent_says(noised))
