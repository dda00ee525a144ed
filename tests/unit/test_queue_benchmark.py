"""The benchmark of the review queue: its ratio, and heads that learn as the reward does."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from benchmarks.alignment.heads import Heads
from benchmarks.alignment.last_layer import LastLayer
from benchmarks.alignment.queue import ratio
from vouch.models.captions import Vocabulary
from vouch.models.networks.reward import RewardEnsemble

RATINGS = np.arange(64, 1025, 64)


def curves(speed: float, seeds: int = 3, ceiling: float = 0.9) -> np.ndarray:
    """[seeds, rounds, (ratings, AUROC)] of one that learns `speed` times as fast."""
    auroc = ceiling - 0.3 * np.exp(-RATINGS * speed / 600)
    return np.stack([np.stack([RATINGS, auroc], 1)] * seeds)


def test_who_learns_twice_as_fast_needs_half_the_ratings():
    value, low, high = ratio(curves(2.0), curves(1.0))
    assert value == pytest.approx(0.5, abs=0.02)
    assert (low, high) == (value, value)  # seeds that agree leave nothing open


def test_random_choice_needs_as_many_as_itself_at_any_round():
    noisy = curves(1.0) + np.random.default_rng(0).normal(0, 0.01, (3, len(RATINGS), 2)) * [0, 1]
    assert ratio(noisy, noisy) == ratio(noisy, noisy, at=7) == (1.0, 1.0, 1.0)


def test_what_is_never_reached_has_no_ratio():
    assert ratio(curves(1.0, ceiling=0.8), curves(1.0)) == (None, None, None)


def test_seeds_that_differ_widen_the_interval():
    own = curves(2.0)
    own[0] = curves(1.0)[0]
    value, low, high = ratio(own, curves(1.0))
    assert value is not None and low is not None and high is not None
    assert low < value < high


@pytest.fixture
def model() -> RewardEnsemble:
    torch.manual_seed(0)
    vocabulary = Vocabulary.of(["monocyte", "neutrophil"], ())
    return RewardEnsemble(vocabulary, ["cell_type"], members=2, size=16, widths=(8, 16)).eval()


def test_heads_that_learned_nothing_score_as_the_reward_does(model: RewardEnsemble):
    images = np.random.default_rng(0).integers(0, 256, (6, 16, 16, 3), np.uint8)
    prompts = ["monocyte", "neutrophil"] * 3
    heads, whole = Heads(model), model.score(images, prompts)
    found = heads.score(heads.see(images, prompts))
    np.testing.assert_allclose(found.overall, whole.overall, atol=1e-6)
    np.testing.assert_allclose(found.std, whole.std, atol=1e-6)
    np.testing.assert_allclose(found.criteria["cell_type"], whole.criteria["cell_type"], atol=1e-6)


def test_heads_learn_what_was_rated_and_leave_their_parent_as_it_was(model: RewardEnsemble):
    chance = np.random.default_rng(0)
    bright = chance.random(64) < 0.5
    images = (chance.integers(0, 60, (64, 16, 16, 3)) + 150 * bright[:, None, None, None]).astype(np.uint8)
    prompts = ["monocyte"] * 64
    targets = torch.tensor(np.stack([bright, np.full(64, np.nan)], 1), dtype=torch.float32)
    heads = Heads(model)
    seen = heads.see(images, prompts)
    before = heads.score(seen).overall
    learned = heads.fitted(seen, targets, steps=60, seed=0).score(seen).overall
    assert learned[bright].min() > learned[~bright].max()
    np.testing.assert_array_equal(heads.score(seen).overall, before)


def test_a_last_layer_begins_as_its_parent_and_learns_what_was_rated(model: RewardEnsemble):
    chance = np.random.default_rng(0)
    bright = chance.random(64) < 0.5
    images = (chance.integers(0, 60, (64, 16, 16, 3)) + 150 * bright[:, None, None, None]).astype(np.uint8)
    prompts = ["monocyte"] * 64
    seen = Heads(model).see(images, prompts)
    parent = LastLayer(Heads(model), seen)
    np.testing.assert_allclose(parent.score(seen).overall, model.score(images, prompts).overall, atol=1e-5)
    targets = torch.tensor(np.stack([bright, np.full(64, np.nan)], 1), dtype=torch.float32)
    learned = parent.fitted(seen, targets, steps=0, seed=0).score(seen).overall
    assert learned[bright].min() > learned[~bright].max()
