"""What one version reaches more than another."""

from __future__ import annotations

import numpy as np
import pytest

from training.evaluation import support
from training.evaluation.coverage import coverage
from training.evaluation.reach import BEYOND, changes_of_reach, reach_levels


def normal(count: int, seed: int, shift: float = 0.0) -> np.ndarray:
    return np.random.default_rng(seed).normal(shift, 1.0, (count, 4))


def test_the_levels_hold_coverage_and_beta_recall() -> None:
    real, generated = normal(200, 0), normal(150, 1)
    least = reach_levels(real, generated).min(1)
    assert (least < BEYOND).mean() == pytest.approx(coverage(real, generated)["coverage"])
    assert least == pytest.approx(support.recall_levels(real, generated), abs=1e-6)


def test_the_same_images_change_nothing_and_a_lost_mode_is_lost() -> None:
    real = np.concatenate([normal(150, 0), normal(150, 1, shift=20.0)])
    both = np.concatenate([normal(100, 2), normal(100, 3, shift=20.0)])
    same = changes_of_reach(real, both, both)["coverage"]
    assert (same.value, same.low, same.high) == (0.0, 0.0, 0.0)
    lost = changes_of_reach(real, normal(200, 2), both)["coverage"]
    assert lost.low < lost.value < lost.high < -0.3


def test_two_draws_of_one_distribution_differ_by_chance_only() -> None:
    found = changes_of_reach(normal(300, 0), normal(300, 1), normal(300, 2))
    for estimate in found.values():
        assert estimate.low < 0 < estimate.high
