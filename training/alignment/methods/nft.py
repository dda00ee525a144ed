"""DiffusionNFT: from rated images and their rewards, by the forward process alone."""

from __future__ import annotations

import torch

from training.alignment.methods.method import Chance
from training.alignment.pool import Pool
from training.alignment.student import Student
from training.objectives.guards import anchor_loss
from training.objectives.nft import nft_loss, normalised
from vouch.recipes import Alignment


class Nft:
    """A reward counts from the mean of its class; a standard deviation of all rewards away is all good, or all bad.
    The anchor to the parent is dearer for images that the ensemble disagrees about.

    The loss is derived for images that the parent drew: of those δ, what is wanted less what the parent says, is 0 in
    the mean (`nft_loss`). Rated images of other versions, and real ones, break that. The optimum (1/β)·E[(2r-1)·δ] then
    mixes what was rewarded with whatever else sets those who made them apart from the parent. The frozen ratings do not
    tell who drew an image, so nothing here leaves them out: rate what the parent drew.
    """

    def __init__(self, student: Student, pool: Pool, config: Alignment) -> None:
        self._student, self._pool, self._config = student, pool, config
        labels = sorted(set(pool.labels))
        groups = torch.tensor([labels.index(label) for label in pool.labels])
        spread = float(pool.rewards.std(unbiased=False)) or 1.0
        self._rewards = normalised(pool.rewards, groups, spread)
        self._disagreement = torch.zeros(len(pool)) if pool.disagreement is None else pool.disagreement

    def loss(self, chance: Chance) -> torch.Tensor:
        rows = chance.rows(self._pool, self._config.batch)
        clean = self._pool.latents[rows]
        noised = self._student.noised(
            clean, self._pool.prompts_of(rows), *self._student.noise(clean, chance.random)
        )
        output, old = self._student.says(noised), self._student.parent_says(noised)
        learned = nft_loss(output, old, noised.wanted, self._rewards[rows], strength=self._config.strength)
        anchor = anchor_loss(output, old, self._disagreement[rows], self._config.doubt)
        return learned + self._config.anchor * anchor
