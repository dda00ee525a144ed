"""RWR, the way of Sun et al. 2023 (arXiv 2306.12438): one's own rated images again, weighted by their reward."""

from __future__ import annotations

import torch

from training.alignment.methods.method import Method
from training.alignment.pool import Pool, real_pool
from training.alignment.step_rng import StepRng
from training.alignment.student import Student
from training.objectives.reward_weighted import reward_weighted_loss
from vouch.recipes import Alignment


class RewardWeighted(Method):
    """Real images are the anchor, where the settings name some."""

    def __init__(self, student: Student, pool: Pool, config: Alignment) -> None:
        self._student, self._pool, self._config = student, pool, config
        self._real = real_pool(student, config)

    def loss(self, rng: StepRng) -> torch.Tensor:
        rows = rng.rows(self._pool, self._config.batch)
        error, real = self._error(self._pool, rows, rng), None
        if self._real is not None:
            chosen = rng.rows(self._real, max(1, self._config.batch // 2))
            real = self._error(self._real, chosen, rng)
        return reward_weighted_loss(error, self._pool.rewards[rows], real, self._config.reward_weighted.beta)

    def _error(self, pool: Pool, rows: list[int], rng: StepRng) -> torch.Tensor:
        return self._student.denoising_error(pool.latents[rows], pool.prompts_of(rows), rng.torch)
