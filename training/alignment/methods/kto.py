"""Diffusion-KTO: from the raters' verdicts themselves."""

from __future__ import annotations

import torch

from training.alignment.methods.method import Method
from training.alignment.pool import Pool
from training.alignment.step_rng import StepRng
from training.alignment.student import Student
from training.objectives.kto import certainty, kto_loss
from vouch.errors import FailedPrecondition
from vouch.recipes import Alignment


class Kto(Method):
    """Half of a batch was found plausible, half implausible, however many of each there are. Each verdict counts by how
    sure the raters are of it together, |2p - 1|."""

    def __init__(self, student: Student, pool: Pool, config: Alignment) -> None:
        self._student, self._pool, self._config = student, pool, config
        self._good = [row for row, verdict in enumerate(pool.verdicts.tolist()) if verdict > 0.5]
        self._bad = [row for row, verdict in enumerate(pool.verdicts.tolist()) if verdict < 0.5]
        if not self._good or not self._bad:
            raise FailedPrecondition(
                "KTO learns from plausible and from implausible images, and one kind is missing. Rate more images.",
                "ONE_SIDED_RATINGS",
            )

    def loss(self, rng: StepRng) -> torch.Tensor:
        half = max(1, self._config.batch // 2)
        rows = [*rng.python.choices(self._good, k=half), *rng.python.choices(self._bad, k=half)]
        clean = self._pool.latents[rows]
        noised = self._student.noised(
            clean, self._pool.prompts_of(rows), *self._student.noise(clean, rng.torch)
        )
        desirable = torch.arange(len(rows)) < half
        sure = certainty(self._pool.verdicts[rows])
        return kto_loss(
            *self._student.errors(noised), desirable, beta=self._config.kto.beta, weight=sure.float()
        )
