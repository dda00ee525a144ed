"""DDPO: policy gradients on the steps of the sampler, for any reward (Black et al. 2023, arXiv 2305.13301)."""

from __future__ import annotations

import torch

from training.methods.method import Chance
from training.objectives.ddpo import advantages, ddpo_loss, log_probability
from training.pool import Pool
from training.student import Student
from training.walk import Taken, Walker


class Ddpo:
    """Every step draws afresh, so the policy that is improved is the one that drew. passes: how many of the sampler's
    steps, chosen at random, carry the gradient. groups: prompts in a batch; advantages are counted within each."""

    def __init__(
        self,
        student: Student,
        pool: Pool,
        *,
        batch: int,
        steps: int,
        passes: int,
        groups: int,
        clip: float,
        anchor: float,
    ) -> None:
        self._student, self._pool, self._batch = student, pool, batch
        self._passes, self._groups, self._clip, self._anchor = passes, groups, clip, anchor
        self._walker = Walker(student, steps, eta=1.0)

    def loss(self, chance: Chance) -> torch.Tensor:
        chosen = self._pool.prompts_of(chance.rows(self._pool, self._groups))
        prompts = [chosen[place % self._groups] for place in range(self._batch)]
        walk = self._walker.walk(prompts, chance.random)
        gains = advantages(self._rewards(walk.clean, prompts), torch.arange(self._batch) % self._groups)
        noisy = [taken for taken in walk.taken if self._walker.path.noise_weight[taken.step] > 0]
        steps = chance.rng.sample(
            noisy, min(self._passes, len(noisy))
        )  # the others have no probability to change
        embedded = self._student.embed(prompts)
        return torch.stack([self._improved(taken, embedded, gains) for taken in steps]).mean()

    @torch.no_grad()
    def _rewards(self, latents: torch.Tensor, prompts: list[str]) -> torch.Tensor:
        return self._student.verdicts(self._student.decode(latents), prompts).mean(0)

    def _improved(self, taken: Taken, embedded: torch.Tensor, gains: torch.Tensor) -> torch.Tensor:
        mean, deviation = self._walker.distribution(taken, embedded)
        now = log_probability(taken.after, mean, deviation)
        loss = ddpo_loss(now, now.detach(), gains, clip=self._clip)
        if not self._anchor:
            return loss
        with torch.no_grad():
            usual, _ = self._walker.distribution(taken, embedded, of_parent=True)
        # The Kullback-Leibler divergence of two normal distributions of one deviation, per dimension.
        divergence = ((mean - usual) ** 2).flatten(1).mean(1) / (2 * deviation**2)
        return loss + self._anchor * divergence.mean()
