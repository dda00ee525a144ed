"""Comparisons teach DPO: which pairs come of them, and what they cost, worked out by hand."""

from __future__ import annotations

import math
import random
from collections.abc import Sequence
from typing import Any

import pytest
import torch

from training.alignment.compared import ComparedLatents
from training.alignment.methods.dpo import Dpo
from training.alignment.pool import Pool
from training.alignment.step_rng import StepRng
from training.inputs.pairs import Pairs
from vouch.errors import FailedPrecondition
from vouch.recipes.alignment import Alignment, DpoSettings

ERRORS = {"good": (1.0, 1.5), "bad": (2.0, 1.9), "worse": (4.0, 4.0)}
"""Denoising errors of student and parent, by prompt."""


class FakeStudent:
    """The latent of an image is its brightness, and prompts alone decide the errors."""

    def encode(self, images: torch.Tensor) -> torch.Tensor:
        return images.float().mean((1, 2, 3)).view(-1, 1, 1, 1)

    def noise(self, clean: torch.Tensor, random: torch.Generator) -> tuple[torch.Tensor, torch.Tensor]:
        return torch.zeros(len(clean), dtype=torch.long), torch.zeros_like(clean)

    def noised(self, clean: torch.Tensor, prompts: Sequence[str], *random: torch.Tensor) -> list[str]:
        return list(prompts)

    def errors(self, noised: list[str]) -> tuple[torch.Tensor, torch.Tensor]:
        ours, theirs = zip(*(ERRORS[prompt] for prompt in noised), strict=True)
        return torch.tensor(ours), torch.tensor(theirs)


STUDENT: Any = FakeStudent()
CONFIG = Alignment(method="dpo", dpo=DpoSettings(beta=2.0), batch=8)


def pairs(*told: tuple[str, str, float]) -> Pairs:
    """Of images that are called as their prompts are; each is as bright as its name is long."""

    def images(side: int) -> torch.Tensor:
        levels = torch.tensor([len(pair[side]) for pair in told], dtype=torch.uint8)
        return levels.view(-1, 1, 1, 1).expand(-1, 3, 2, 2)

    first, second, preferred = zip(*told, strict=True)
    digests = tuple(zip(first, second, strict=True))
    return Pairs(images(0), images(1), first, second, digests, torch.tensor(preferred))


def pool(*verdicts: float, compared: Pairs | None = None) -> Pool:
    """Rated images of one class."""
    found = torch.tensor(verdicts)
    return Pool(torch.zeros(len(found), 1, 1, 1), ("cell",) * len(found), found, found, compared)


def test_the_side_that_is_likelier_the_better_one_is_it_and_a_tie_says_nothing() -> None:
    found = ComparedLatents.of(
        STUDENT, pairs(("bad", "good", 0.2), ("good", "worse", 0.7), ("bad", "worse", 0.5))
    )
    named = [(found.prompts[worse], found.prompts[better]) for worse, better in found.pairs]
    assert named == [("bad", "good"), ("worse", "good")]
    assert sorted(found.prompts) == ["bad", "good", "worse"]  # each once, however often it was compared
    assert found.latents.flatten().tolist() == [len(prompt) for prompt in found.prompts]


def test_each_side_of_a_comparison_is_denoised_as_it_was_asked_for() -> None:
    method = Dpo(STUDENT, pool(float("nan"), compared=pairs(("bad", "good", 0.2))), CONFIG)
    moved = (1.0 - 1.5) - (2.0 - 1.9)
    sure = 0.6  # 0.8 that the second is better, less 0.2 that it is not
    assert method.loss(StepRng.of(0, 1)).item() == pytest.approx(sure * math.log(1 + math.exp(2.0 * moved)))


def test_a_pair_counts_by_how_sure_the_raters_are_of_its_order() -> None:
    method = Dpo(
        STUDENT, pool(0.3, 0.9, compared=pairs(("bad", "good", 0.2), ("good", "worse", 0.99))), CONFIG
    )
    weights = {pair: method._weight(pair) for pair in [(0, 1), *method._compared]}
    assert list(weights.values()) == pytest.approx([0.6, 0.6, 0.98])


def test_comparisons_stand_beside_pairs_of_verdicts() -> None:
    method = Dpo(STUDENT, pool(0.0, 1.0, compared=pairs(("bad", "good", 0.2))), CONFIG)
    rng = StepRng.of(0, 1)
    drawn = [method._pair(rng) for _ in range(400)]
    assert set(drawn) == {(0, 1), (2, 3)}
    assert drawn.count((0, 1)) == pytest.approx(200, abs=40)


def test_without_comparisons_the_same_pairs_are_drawn_as_before_there_were_any() -> None:
    method, rng = Dpo(STUDENT, pool(0.0, 1.0, 0.0, 1.0), CONFIG), random.Random(3)
    expected = []
    for _ in range(20):
        worse, better = rng.choice([([0, 2], [1, 3])])
        expected.append((rng.choice(worse), rng.choice(better)))
    rng = StepRng(random.Random(3), torch.Generator())
    assert [method._pair(rng) for _ in range(20)] == expected


def test_without_either_there_is_nothing_to_learn() -> None:
    with pytest.raises(FailedPrecondition, match="no comparison prefers one"):
        Dpo(STUDENT, pool(1.0, 1.0, compared=pairs(("bad", "good", 0.5))), CONFIG)
