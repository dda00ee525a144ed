"""Diffusion-DPO: from pairs of images of which experts find one better."""

from __future__ import annotations

from collections import defaultdict

import torch

from training.alignment.compared import ComparedLatents
from training.alignment.methods.method import Method
from training.alignment.pool import Pool
from training.alignment.step_rng import StepRng
from training.alignment.student import Student
from training.objectives.dpo import dpo_loss
from vouch.errors import FailedPrecondition
from vouch.recipes import Alignment

COMPARED = 0.5
"""Share of pairs that experts compared, where there are pairs by verdict too."""


class Dpo(Method):
    """A pair is what experts compared, or a plausible and an implausible image of the same declared class.

    Images that were compared may have been asked for by different prompts, and each keeps its own: experts judged it as
    the answer to that prompt, and how likely it is drawn for that prompt is what the loss can change.
    """

    def __init__(self, student: Student, pool: Pool, config: Alignment) -> None:
        self._student, self._config = student, config
        self._latents, self._prompts = pool.latents, pool.prompts
        self._verdicts, self._sides = pool.verdicts.tolist(), _by_verdict(pool)
        compared = ComparedLatents.of(student, pool.pairs) if pool.pairs is not None else None
        self._certainty = self._with(compared) if compared else {}
        self._compared = list(self._certainty)
        if not self._sides and not self._compared:
            raise FailedPrecondition(
                "DPO learns from pairs: no comparison prefers one of its images, and no class has both plausible and "
                "implausible images. Rate or compare more images.",
                "ONE_SIDED_RATINGS",
            )

    def loss(self, rng: StepRng) -> torch.Tensor:
        pairs = [self._pair(rng) for _ in range(max(1, self._config.batch // 2))]
        worse, better = [list(rows) for rows in zip(*pairs, strict=True)]
        # The same noise for both: what differs is then the images, not their luck.
        timesteps, noise = self._student.noise(self._latents[better], rng.torch)
        errors = [self._errors(rows, timesteps, noise) for rows in (better, worse)]
        weight = torch.tensor([self._weight(pair) for pair in pairs])
        return dpo_loss(*errors[0], *errors[1], beta=self._config.dpo.beta, weight=weight)

    def _with(self, compared: ComparedLatents) -> dict[tuple[int, int], float]:
        """Takes these images in behind the rated ones; the rows of their pairs then, and how sure the raters are."""
        beyond = len(self._prompts)
        self._latents = torch.cat([self._latents, compared.latents])
        self._prompts += compared.prompts
        pairs = [(beyond + worse, beyond + better) for worse, better in compared.pairs]
        return dict(zip(pairs, compared.certainty, strict=True))

    def _weight(self, pair: tuple[int, int]) -> float:
        """By how much the order is likelier right than wrong: |2p - 1| of a comparison; of two verdicts
        p_better·(1 - p_worse) - p_worse·(1 - p_better) = p_better - p_worse."""
        if pair in self._certainty:
            return self._certainty[pair]
        worse, better = pair
        return float(self._verdicts[better] - self._verdicts[worse])

    def _pair(self, rng: StepRng) -> tuple[int, int]:
        """Rows of a worse and a better image. No number is drawn for a choice that there is not."""
        if self._compared and not (self._sides and rng.python.random() >= COMPARED):
            return rng.python.choice(self._compared)
        worse, better = rng.python.choice(self._sides)
        return rng.python.choice(worse), rng.python.choice(better)

    def _errors(
        self, rows: list[int], timesteps: torch.Tensor, noise: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor]:
        prompts = [self._prompts[row] for row in rows]
        return self._student.errors(self._student.noised(self._latents[rows], prompts, timesteps, noise))


def _by_verdict(pool: Pool) -> list[tuple[list[int], list[int]]]:
    """The implausible and the plausible rows of each class that has both."""
    sides: dict[str, tuple[list[int], list[int]]] = defaultdict(lambda: ([], []))
    for row, (label, verdict) in enumerate(zip(pool.labels, pool.verdicts.tolist(), strict=True)):
        if verdict == verdict and verdict != 0.5:  # neither open nor undecided
            sides[label][verdict > 0.5].append(row)
    return [side for side in sides.values() if all(side)]
