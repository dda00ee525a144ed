"""No feedback at all: further training on real images, what every method has to be better than."""

from __future__ import annotations

import torch

from training.alignment.methods.method import Method
from training.alignment.pool import Pool, real_pool
from training.alignment.step_rng import StepRng
from training.alignment.student import Student
from vouch.errors import FailedPrecondition
from vouch.recipes import Alignment


class Real(Method):
    """Learns nothing from ratings."""

    def __init__(self, student: Student, pool: Pool, config: Alignment) -> None:
        del pool
        self._student, self._batch = student, config.batch
        self._real = real_pool(student, config)
        if self._real is None:
            raise FailedPrecondition(
                "The method real learns from real images, and there are none. Give --set data=FILE.",
                "NO_IMAGES",
            )

    def loss(self, rng: StepRng) -> torch.Tensor:
        assert self._real is not None
        rows = rng.rows(self._real, self._batch)
        error = self._student.denoising_error(
            self._real.latents[rows], self._real.prompts_of(rows), rng.torch
        )
        return error.mean()
