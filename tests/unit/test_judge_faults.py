"""The judge that ships finds planted faults in real cells that it has never seen."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch.nn import functional as F

import vouch
from tests.real import PBC64, needs_pbc64
from training.data.examples import Examples, load_examples
from training.evaluation.codec import load_autoencoder, through
from training.raters.plausibility import FORMS, Plausibility, prompts_of

pytestmark = needs_pbc64
STARTER = Path(vouch.__file__).parent / "starter"
FIRST_AUTOENCODER = Path(__file__).parents[2] / "benchmarks" / "starter" / "first_autoencoder"
EVERY = 8
"""Of the test split every eighth cell: some 340."""


@pytest.fixture(scope="module")
def judge() -> Plausibility:
    return Plausibility.load(STARTER / "judge")


@pytest.fixture(scope="module")
def cells() -> Examples:
    test = load_examples(PBC64 / "test.parquet")
    return test.subset(range(0, len(test), EVERY))


def passed(judge: Plausibility, images: torch.Tensor, cells: Examples, form: str = "bare") -> float:
    return float(judge.assess(images, prompts_of(cells, form)).plausible.mean())


@pytest.mark.parametrize("form", FORMS)
def test_real_cells_pass_alike_whatever_their_prompt_declares(
    judge: Plausibility, cells: Examples, form: str
) -> None:
    assert 0.88 <= passed(judge, cells.images, cells, form) <= 0.98


def smoothed(images: torch.Tensor) -> torch.Tensor:
    """Chromatin and granules averaged away within 3×3 pixels."""
    padded = F.pad(images.float(), (1, 1, 1, 1), mode="replicate")
    return F.avg_pool2d(padded, 3, 1).round().to(torch.uint8)


def shifted_stain(images: torch.Tensor) -> torch.Tensor:
    """Red and blue exchanged: no stain has these colours."""
    return images.flip(1)


@pytest.mark.parametrize(("fault", "at_most"), [(smoothed, 0.8), (shifted_stain, 0.2)])
def test_a_planted_fault_makes_cells_implausible(
    judge: Plausibility, cells: Examples, fault: Callable[[torch.Tensor], torch.Tensor], at_most: float
) -> None:
    assert passed(judge, fault(cells.images), cells) <= at_most * passed(judge, cells.images, cells)


def test_a_nucleus_of_another_class_is_found(judge: Plausibility, cells: Examples) -> None:
    labels = judge.vocabulary.labels
    others = tuple(labels[(labels.index(label) + 3) % len(labels)] for label in cells.labels)
    assert float(judge.assess(cells.images, others).plausible.mean()) <= 0.02


def test_what_an_autoencoder_takes_away_is_seen(judge: Plausibility, cells: Examples) -> None:
    """Basophils without granules are no basophils. The first starter's autoencoder has four channels and loses them."""
    vae = load_autoencoder(FIRST_AUTOENCODER)
    restored = torch.from_numpy(through(vae, cells.images.permute(0, 2, 3, 1).numpy())).permute(0, 3, 1, 2)
    assert passed(judge, restored, cells) <= 0.8 * passed(judge, cells.images, cells)
