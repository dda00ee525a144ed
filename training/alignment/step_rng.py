"""The random number generators of a step of alignment."""

from __future__ import annotations

import random
from dataclasses import dataclass

import torch

from training.alignment.pool import Pool
from training.randomness import numbers, tensors


@dataclass(frozen=True)
class StepRng:
    """The random number generators of one step: the same whether the run was resumed or not."""

    python: random.Random
    torch: torch.Generator

    @classmethod
    def of(cls, seed: object, step: int) -> StepRng:
        return cls(numbers(seed, "align", step), tensors(seed, "align", step))

    def rows(self, pool: Pool, count: int) -> list[int]:
        """Some of the pool, with repeats."""
        return [self.python.randrange(len(pool)) for _ in range(count)]
