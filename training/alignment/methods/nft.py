"""DiffusionNFT: from rated images and their rewards, by the forward process alone."""

from __future__ import annotations

import torch

from training.alignment.methods.method import Method
from training.alignment.pool import Pool
from training.alignment.rounds import Rounds
from training.alignment.step_rng import StepRng
from training.alignment.student import Student
from training.objectives.guards import anchor_loss
from training.objectives.nft import nft_loss, normalised
from vouch.recipes import Alignment


class Nft(Method):
    """Learns from images that the student drew itself (`Rounds`), guided as it is served. The anchor to the parent is
    dearer for images that the ensemble disagrees about.

    The loss is derived for images of the version that it starts from: of those δ, what is wanted less what that version
    says, is 0 in the mean (`nft_loss`). With `round_steps` 0 it learns from the rated images, for which that version is
    the parent. A reward then counts from the mean of its class, and a standard deviation of all rewards away is all
    good, or all bad. Rated images of other versions break the derivation: the optimum (1/β)·E[(2r-1)·δ] mixes what was
    rewarded with whatever else sets those who made them apart from the parent.
    """

    def __init__(self, student: Student, pool: Pool, config: Alignment) -> None:
        self._student, self._pool, self._config = student, pool, config
        self._rounds = Rounds(student, pool, config, config.nft) if config.nft.round_steps else None
        labels = sorted(set(pool.labels))
        groups = torch.tensor([labels.index(label) for label in pool.labels])
        spread = float(pool.rewards.std(unbiased=False)) or 1.0
        self._rewards = normalised(pool.rewards, groups, spread)
        self._disagreement = torch.zeros(len(pool)) if pool.disagreement is None else pool.disagreement

    def loss(self, rng: StepRng) -> torch.Tensor:
        return self._of_rated(rng) if self._rounds is None else self._of_drawn(self._rounds, rng)

    def _of_drawn(self, rounds: Rounds, rng: StepRng) -> torch.Tensor:
        round_ = rounds.now(rng)
        rows = [rng.python.randrange(len(round_.prompts)) for _ in range(self._config.batch)]
        outputs = rounds.outputs(round_, rows, rng)
        goodness = round_.goodness[rows]
        learned = nft_loss(
            outputs.guided, outputs.old, outputs.noised.wanted, goodness, beta=self._config.nft.beta
        )
        parent = self._student.predict_parent(outputs.noised)
        anchor = anchor_loss(
            outputs.plain, parent, round_.disagreement[rows], self._config.anchor_uncertainty_scale
        )
        return learned + self._config.anchor * anchor

    def _of_rated(self, rng: StepRng) -> torch.Tensor:
        rows = rng.rows(self._pool, self._config.batch)
        clean = self._pool.latents[rows]
        noised = self._student.noised(
            clean, self._pool.prompts_of(rows), *self._student.noise(clean, rng.torch)
        )
        output, old = self._student.predict(noised), self._student.predict_parent(noised)
        learned = nft_loss(output, old, noised.wanted, self._rewards[rows], beta=self._config.nft.beta)
        anchor = anchor_loss(output, old, self._disagreement[rows], self._config.anchor_uncertainty_scale)
        return learned + self._config.anchor * anchor
