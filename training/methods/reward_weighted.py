"""RWR, the way of Sun et al. 2023 (arXiv 2306.12438): one's own rated images again, weighted by their reward."""

from __future__ import annotations

import torch

from training.methods.method import Chance
from training.objectives import denoising
from training.objectives.reward_weighted import reward_weighted_loss
from training.pool import Pool
from training.student import Student


class RewardWeighted:
    """real: the anchor, or None."""

    def __init__(self, student: Student, pool: Pool, real: Pool | None, *, batch: int, beta: float) -> None:
        self._student, self._pool, self._real = student, pool, real
        self._batch, self._beta = batch, beta

    def loss(self, chance: Chance) -> torch.Tensor:
        rows = chance.rows(self._pool, self._batch)
        error, real = self._error(self._pool, rows, chance), None
        if self._real is not None:
            chosen = chance.rows(self._real, max(1, self._batch // 2))
            real = self._error(self._real, chosen, chance)
        return reward_weighted_loss(error, self._pool.rewards[rows], real, self._beta)

    def _error(self, pool: Pool, rows: list[int], chance: Chance) -> torch.Tensor:
        clean = pool.latents[rows]
        noised = self._student.noised(
            clean, pool.prompts_of(rows), *self._student.noise(clean, chance.random)
        )
        return denoising.per_sample_error(self._student.says(noised), noised.wanted)
