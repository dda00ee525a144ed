"""Elastic training on two Ray nodes of this machine."""

from __future__ import annotations

from pathlib import Path

import pytest

from benchmarks.cluster.elastic import Elastic, config, log_loss, rated, train_on_two_nodes

pytestmark = [pytest.mark.ray, pytest.mark.timeout(1800), pytest.mark.slow]


def test_a_run_goes_on_with_the_worker_that_is_left_and_takes_another_when_there_is_room(
    tmp_path: Path,
) -> None:
    settings = config(tmp_path / "out", seed=0, steps=600)
    assert train_on_two_nodes(rated(tmp_path / "run"), settings) == (2, 1, 2)
    assert log_loss(settings.out) < 0.6  # a coin has 0.69


def test_a_run_that_ends_outside_of_the_noise_of_seeds_is_not_equal() -> None:
    undisturbed = (0.40, 0.41, 0.42, 0.40, 0.41)
    assert Elastic(undisturbed, 0.415, (2, 1, 2)).is_equal
    assert not Elastic(undisturbed, 0.50, (2, 1, 2)).is_equal
    assert not Elastic(undisturbed, 0.30, (2, 1, 2)).is_equal
