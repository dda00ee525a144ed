"""Intervals and coverage on numbers worked out elsewhere."""

from __future__ import annotations

import numpy as np
import pytest

from training.evaluation.coverage import coverage, covered
from training.evaluation.intervals import bootstrapped, rate
from training.reward.calibration import expected_calibration_error


def test_a_rate_brings_its_interval_and_of_nothing_there_is_none() -> None:
    found = rate(8, 10)
    assert (found.value, found.low, found.high) == pytest.approx((0.8, 0.4902, 0.9433), abs=1e-4)
    assert np.isnan(rate(0, 0).value)


def test_a_bootstrapped_value_lies_in_its_interval() -> None:
    rows = np.random.default_rng(0).normal(3.0, 1.0, 400)
    found = bootstrapped(rows, np.mean)
    assert found.low < found.value < found.high and found.high - found.low < 0.3


def test_the_same_images_cover_all_and_far_ones_nothing() -> None:
    real = np.random.default_rng(0).normal(size=(200, 4))
    assert coverage(real, real)["coverage"] == 1.0
    assert coverage(real, real + 100.0)["coverage"] == 0.0


def test_what_covers_what_counts_as_prdc_counts_it() -> None:
    rng = np.random.default_rng(0)
    real, generated = rng.normal(size=(80, 4)), rng.normal(size=(60, 4)) * 0.8 + 0.3
    shares, near = coverage(real, generated), covered(real, generated)
    assert shares["coverage"] == pytest.approx(near.any(1).mean())
    assert shares["precision"] == pytest.approx(near.any(0).mean())
    assert shares["recall"] == pytest.approx(covered(generated, real).any(0).mean())


def test_half_of_the_modes_cover_half() -> None:
    rng = np.random.default_rng(0)
    left, right = rng.normal(size=(200, 4)), rng.normal(size=(200, 4)) + 50.0
    found = coverage(np.concatenate([left, right]), rng.normal(size=(400, 4)))
    assert found["coverage"] == pytest.approx(0.5, abs=0.03)


def test_calibration_error_is_nothing_when_sure_and_right_and_all_when_sure_and_wrong() -> None:
    right = np.array([0.0, 0.0, 1.0, 1.0])
    assert expected_calibration_error(right, right) == 0.0
    assert expected_calibration_error(1 - right, right) == 1.0
    assert expected_calibration_error(np.full(4, 0.5), right) == 0.0
