"""Attribute shares of generated cells against real ones, on shares that are known."""

from __future__ import annotations

import numpy as np
import pytest

from training.evaluation.attribute_shares import attribute_distances, total_variation


def test_total_variation_is_half_the_summed_difference_of_shares() -> None:
    ours, theirs = np.array([0, 0, 0, 1]), np.array([0, 1, 1, 2])
    assert total_variation(ours, theirs) == pytest.approx((0.5 + 0.25 + 0.25) / 2)
    assert total_variation(ours, ours) == 0.0
    assert total_variation(np.zeros(3, int), np.ones(5, int)) == 1.0


def shares(ones: float, count: int, seed: int) -> np.ndarray:
    return (np.random.default_rng(seed).uniform(size=count) < ones).astype(int)


def test_a_class_that_is_drawn_with_one_shape_alone_is_found_and_named_worst() -> None:
    labels = ["monocyte"] * 300 + ["neutrophil"] * 300
    real = {"nucleus": np.concatenate([shares(0.4, 300, 0), shares(0.6, 300, 1)])}
    drawn = {"nucleus": np.concatenate([shares(0.4, 300, 2), np.ones(300, int)])}
    known = {"monocyte": ["nucleus"], "neutrophil": ["nucleus"]}
    found = attribute_distances(real, labels, drawn, labels, known)
    assert found["attribute distance, neutrophil"].value == pytest.approx(0.4, abs=0.06)
    assert found["attribute distance, monocyte"].value < 0.1
    assert found["attribute distance, worst class"] == found["attribute distance, neutrophil"]
    assert all(one.low <= one.value <= one.high for one in found.values())


def test_classes_of_which_nothing_is_annotated_or_little_was_drawn_are_left_out() -> None:
    labels = ["platelet"] * 50 + ["monocyte"] * 50
    read = {"nucleus": shares(0.5, 100, 0)}
    few = {"nucleus": shares(0.5, 5, 1)}
    assert attribute_distances(read, labels, few, ["monocyte"] * 5, {"monocyte": ["nucleus"]}) == {}
    found = attribute_distances(read, labels, read, labels, {"monocyte": ["nucleus"]})
    assert not [name for name in found if "platelet" in name]
