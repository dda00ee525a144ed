"""AWM: advantage-weighted matching on fresh images (Xue et al. 2025, arXiv 2509.25050)."""

from __future__ import annotations

import torch

from training.alignment.methods.method import Method
from training.alignment.pool import Pool
from training.alignment.rounds import Rounds
from training.alignment.step_rng import StepRng
from training.alignment.student import Student
from training.objectives.awm import awm_loss
from training.objectives.denoising import per_sample_error
from training.objectives.guards import anchor_loss
from vouch.recipes import Alignment


class Awm(Method):
    """Policy gradients without trajectories: any sampler draws, and each image is noised anew for each step. The anchor
    to the parent is dearer for images that the ensemble disagrees about."""

    def __init__(self, student: Student, pool: Pool, config: Alignment) -> None:
        self._student, self._config = student, config
        self._rounds = Rounds(student, pool, config, config.awm)

    def loss(self, rng: StepRng) -> torch.Tensor:
        round_ = self._rounds.now(rng)
        rows = [rng.python.randrange(len(round_.prompts)) for _ in range(self._config.batch)]
        outputs = self._rounds.outputs(round_, rows, rng)
        error, old = (
            per_sample_error(output, outputs.noised.wanted) for output in (outputs.guided, outputs.old)
        )
        learned = awm_loss(error, old, 2 * round_.goodness[rows] - 1, clip=self._config.awm.clip)
        parent = self._student.predict_parent(outputs.noised)
        anchor = anchor_loss(
            outputs.plain, parent, round_.disagreement[rows], self._config.anchor_uncertainty_scale
        )
        return learned + self._config.anchor * anchor
