"""The images that an alignment learns from, as latents: those that were rated, and real ones."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch

from training.alignment.student import Student
from training.data.augmentation import to_unit
from training.data.captions import random_caption
from training.data.examples import load_examples
from training.data.splits import split_of
from training.inputs.pairs import Pairs
from training.inputs.rated import Rated
from training.objectives.reward_gradient import conservative
from training.randomness import numbers
from vouch.recipes import Alignment

REAL_IMAGES = 2048
BATCH = 64


@dataclass(frozen=True)
class Pool:
    """Latents [N, C, h, w] of images with their prompts, rewards [N] in [0, 1], and the raters' own verdicts [N] in
    [0, 1], nan where they left it open.

    `pairs`: what experts compared, for methods that learn from it. `disagreement`: standard deviation of the members'
    logits [N]; None where no ensemble was asked.
    """

    latents: torch.Tensor
    prompts: tuple[str, ...]
    rewards: torch.Tensor
    verdicts: torch.Tensor
    pairs: Pairs | None = None
    disagreement: torch.Tensor | None = None

    def __len__(self) -> int:
        return len(self.prompts)

    @property
    def labels(self) -> list[str]:
        """The declared class of each image."""
        return [prompt.partition(",")[0].strip() for prompt in self.prompts]

    def prompts_of(self, rows: Sequence[int]) -> list[str]:
        return [self.prompts[row] for row in rows]


@torch.no_grad()
def rated_pool(student: Student, rated: Rated, std_penalty: float, pairs: Pairs | None = None) -> Pool:
    """Rewards are what the members of the reward model that teach say now, less `std_penalty` standard deviations."""
    images = to_unit(rated.images)
    parts = [
        student.teacher_logits(images[first : first + BATCH], rated.prompts[first : first + BATCH])
        for first in range(0, len(rated), BATCH)
    ]
    logits = torch.cat(parts, 1)
    return Pool(
        student.encode(rated.images),
        rated.prompts,
        rewards=conservative(logits, std_penalty).sigmoid(),
        verdicts=rated.overall,
        pairs=pairs,
        disagreement=logits.std(0, unbiased=False),
    )


def real_pool(student: Student, config: Alignment) -> Pool | None:
    """Some of the labelled real images that the settings name, None where they name none. They count 1."""
    if config.data is None:
        return None
    examples = split_of(load_examples(config.data, domain=config.domain), config.split)
    rng = numbers(config.seed, "anchor")
    chosen = rng.sample(range(len(examples)), min(REAL_IMAGES, len(examples)))
    part = examples.subset(chosen)
    prompts = tuple(random_caption(a, b, rng) for a, b in zip(part.labels, part.attributes, strict=True))
    ones = torch.ones(len(prompts))
    return Pool(student.encode(part.images), prompts, ones, ones)
