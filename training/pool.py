"""The images that an alignment learns from, as latents: those that were rated, and real ones."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass

import torch

from training.data import Examples, random_caption
from training.inputs import Rated
from training.student import Student


@dataclass(frozen=True)
class Pool:
    """Latents [N, C, h, w] of images with their prompts, rewards [N] in [0, 1], and the raters' own verdicts [N] in
    [0, 1], nan where they left it open."""

    latents: torch.Tensor
    prompts: tuple[str, ...]
    rewards: torch.Tensor
    verdicts: torch.Tensor

    def __len__(self) -> int:
        return len(self.prompts)

    @property
    def labels(self) -> list[str]:
        """The declared class of each image."""
        return [prompt.partition(",")[0].strip() for prompt in self.prompts]

    def prompts_of(self, rows: Sequence[int]) -> list[str]:
        return [self.prompts[row] for row in rows]


def rated_pool(student: Student, rated: Rated) -> Pool:
    """Rewards are what the reward model says now."""
    images = rated.images.permute(0, 2, 3, 1).numpy()
    rewards = torch.from_numpy(student.reward.score(images, rated.prompts).overall)
    return Pool(student.encode(rated.images), rated.prompts, rewards, rated.overall)


def real_pool(student: Student, examples: Examples, most: int, rng: random.Random) -> Pool:
    """Real images count 1."""
    chosen = rng.sample(range(len(examples)), min(most, len(examples)))
    part = examples.subset(chosen)
    prompts = tuple(random_caption(a, b, rng) for a, b in zip(part.labels, part.attributes, strict=True))
    ones = torch.ones(len(prompts))
    return Pool(student.encode(part.images), prompts, ones, ones)
