"""What every method of alignment is."""

from __future__ import annotations

import random
from dataclasses import dataclass
from typing import Protocol

import torch

from training.alignment.pool import Pool
from training.randomness import numbers, tensors


@dataclass(frozen=True)
class Chance:
    """The random numbers of one step: the same whether the run was resumed or not."""

    rng: random.Random
    random: torch.Generator

    @classmethod
    def of(cls, seed: object, step: int) -> Chance:
        return cls(numbers(seed, "align", step), tensors(seed, "align", step))

    def rows(self, pool: Pool, count: int) -> list[int]:
        """Some of the pool, with repeats."""
        return [self.rng.randrange(len(pool)) for _ in range(count)]


class Method(Protocol):
    """Made of a student, the rated images and the settings (`vouch.recipes.Alignment`). Raises FailedPrecondition when
    there is too little to learn from."""

    def loss(self, chance: Chance) -> torch.Tensor:
        """What one step costs; its gradient is the method's."""
        ...
