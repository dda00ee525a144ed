"""Two-sample tests: nothing is told of samples of one distribution, and a planted difference is."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.ndimage import gaussian_filter

from training.evaluation.two_sample import two_sample_auc, two_sample_auc_by_network


def normal(count: int, seed: int, shift: float = 0.0) -> np.ndarray:
    return np.random.default_rng(seed).normal(shift, 1.0, (count, 16))


def test_samples_of_one_distribution_cannot_be_told_apart() -> None:
    """The mean over repeats: neither above 0.5 nor, as of pooled folds, below."""
    found = [two_sample_auc(normal(100, 2 * seed), normal(100, 2 * seed + 1)).value for seed in range(12)]
    assert np.mean(found) == pytest.approx(0.5, abs=0.04)


def test_the_interval_holds_what_the_best_classifier_reaches() -> None:
    """Of two normal distributions half a deviation apart in 16 coordinates: the normal distribution of 2 / sqrt(2)."""
    found = two_sample_auc(normal(1000, 0), normal(1000, 1, 0.5))
    assert found.low < 0.921 < found.high + 0.01 and found.high - found.low < 0.05


def test_samples_of_different_sizes_are_told_apart_all_the_same() -> None:
    assert two_sample_auc(normal(60, 0), normal(400, 1, 1.0)).low > 0.95


def textures(count: int, seed: int) -> np.ndarray:
    grains = np.random.default_rng(seed).normal(0, 1, (count, 16, 16, 1))
    images = 128 + 40 * gaussian_filter(grains, (0, 0.5, 0.5, 0)).repeat(3, -1)
    return images.clip(0, 255).astype(np.uint8)


def test_a_small_network_sees_softened_textures_and_nothing_in_fresh_ones() -> None:
    soft = gaussian_filter(textures(120, 1).astype(np.float32), (0, 0.6, 0.6, 0)).astype(np.uint8)
    assert two_sample_auc_by_network(textures(120, 0), soft, steps=40).low > 0.9
    same = two_sample_auc_by_network(textures(120, 0), textures(120, 2), steps=40)
    assert same.low < 0.5 < same.high
