"""Diffusion-DPO: from pairs of rated images of one prompt."""

from __future__ import annotations

from collections import defaultdict

import torch

from training.alignment.methods.method import Chance
from training.alignment.pool import Pool
from training.alignment.student import Student
from training.objectives.dpo import dpo_loss
from vouch.errors import FailedPrecondition
from vouch.recipes import Alignment


class Dpo:
    """A pair is a plausible and an implausible image of the same declared class."""

    def __init__(self, student: Student, pool: Pool, config: Alignment) -> None:
        self._student, self._pool, self._config = student, pool, config
        sides: dict[str, tuple[list[int], list[int]]] = defaultdict(lambda: ([], []))
        for row, (label, verdict) in enumerate(zip(pool.labels, pool.verdicts.tolist(), strict=True)):
            if verdict == verdict and verdict != 0.5:  # neither open nor undecided
                sides[label][verdict > 0.5].append(row)
        self._sides = [side for side in sides.values() if all(side)]
        if not self._sides:
            raise FailedPrecondition(
                "DPO learns from pairs, and no class has both plausible and implausible images. Rate more images.",
                "ONE_SIDED_RATINGS",
            )

    def loss(self, chance: Chance) -> torch.Tensor:
        pairs = [self._pair(chance) for _ in range(max(1, self._config.batch // 2))]
        worse, better = [list(rows) for rows in zip(*pairs, strict=True)]
        # The same noise for both: what differs is then the images, not their luck.
        timesteps, noise = self._student.noise(self._pool.latents[better], chance.random)
        errors = [self._errors(rows, timesteps, noise) for rows in (better, worse)]
        return dpo_loss(*errors[0], *errors[1], beta=self._config.divergence)

    def _pair(self, chance: Chance) -> tuple[int, int]:
        worse, better = chance.rng.choice(self._sides)
        return chance.rng.choice(worse), chance.rng.choice(better)

    def _errors(
        self, rows: list[int], timesteps: torch.Tensor, noise: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor]:
        prompts = self._pool.prompts_of(rows)
        return self._student.errors(self._student.noised(self._pool.latents[rows], prompts, timesteps, noise))
