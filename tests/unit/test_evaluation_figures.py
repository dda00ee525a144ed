"""Figures of evidence on distributions whose answer is known."""

from __future__ import annotations

import numpy as np
import pytest

from training.evaluation.authenticity import authentic, nearest
from training.evaluation.distance import frechet, kid
from training.evaluation.diversity import relative, within_prompt
from training.evaluation.support import curve, integrated, precision_levels, recall_levels
from training.evaluation.tail import tail


def normal(count: int, seed: int, *, shift: float = 0.0, scale: float = 1.0, width: int = 8) -> np.ndarray:
    return np.random.default_rng(seed).normal(shift, scale, (count, width))


def test_the_nearest_training_image_is_found() -> None:
    found = nearest(np.array([[0.0, 0.0], [3.0, 4.0]]), np.array([[3.0, 3.0], [0.5, 0.0]]))
    assert found.index.tolist() == [1, 0]
    assert found.distance.tolist() == [1.0, 0.5]


def test_an_image_is_authentic_when_it_is_further_than_the_training_images_neighbour() -> None:
    train = np.array([[0.0], [1.0], [10.0]])
    assert authentic(train, np.array([[0.4], [11.0], [-2.0], [20.0]])).tolist() == [False, False, True, True]


def test_a_copy_is_never_authentic_and_half_of_fresh_images_are() -> None:
    train = normal(1000, 0)
    assert not authentic(train, train[:100]).any()
    assert authentic(train, normal(1000, 1)).mean() == pytest.approx(0.5, abs=0.1)


def test_the_level_of_an_image_is_the_share_of_real_ones_that_are_more_typical() -> None:
    real = np.array([[-1.0], [1.0], [-2.0], [2.0]])
    assert precision_levels(real, np.array([[0.0], [1.5], [9.0]])).tolist() == [0.0, 0.5, 1.01]


def test_a_real_image_is_reached_at_the_level_of_the_most_typical_image_near_it() -> None:
    real = np.array([[0.0], [0.1], [0.2], [10.0], [10.1], [10.2]])
    generated = np.array([[0.05], [5.0], [5.1], [4.9]])
    assert recall_levels(real, generated, nearest=1).tolist() == [0.75, 0.75, 1.01, 1.01, 1.01, 1.01]


def test_images_of_the_same_distribution_lie_on_the_diagonal() -> None:
    real, generated = normal(3000, 0), normal(3000, 1)
    assert integrated(precision_levels(real, generated)) == pytest.approx(1.0, abs=0.05)
    assert curve(recall_levels(real, generated))[-1] > 0.95


@pytest.mark.parametrize(("scale", "above"), [(0.3, True), (3.0, False)], ids=["all alike", "odd"])
def test_precision_lies_above_the_diagonal_for_what_is_all_alike_and_below_it_for_what_is_odd(
    scale: float, above: bool
) -> None:
    levels = precision_levels(normal(2000, 0), normal(2000, 1, scale=scale))
    middle = curve(levels, np.array([0.5]))[0]
    assert middle > 0.9 if above else middle < 0.1
    assert integrated(levels) < 0.6


def test_recall_misses_the_mode_that_is_not_drawn() -> None:
    real = np.concatenate([normal(500, 0), normal(500, 1, shift=30.0)])
    assert curve(recall_levels(real, normal(1000, 2)))[-1] == pytest.approx(0.5, abs=0.02)


def test_the_tail_of_real_images_is_a_twentieth_and_of_bad_ones_more() -> None:
    real, cells = np.random.default_rng(0).uniform(size=10_000), ["cell"] * 10_000
    fresh = np.random.default_rng(1).uniform(size=10_000)
    assert tail(real, cells, fresh, cells).value == pytest.approx(0.05, abs=0.01)
    assert tail(real, cells, real * 0.5, cells).value == pytest.approx(0.1, abs=0.01)


def of_classes(counts: dict[str, int], seed: int) -> tuple[np.ndarray, list[str]]:
    """Scores of an easy, a middling and a hard class, and their names."""
    random, means = np.random.default_rng(seed), {"easy": 0.0, "middling": -1.0, "hard": -4.0}
    scores = [random.normal(means[label], 1.0, count) for label, count in counts.items()]
    return np.concatenate(scores), [label for label, count in counts.items() for _ in range(count)]


@pytest.mark.parametrize("hard", [30, 100, 10_000])
def test_the_tail_is_a_twentieth_in_whatever_proportions_the_classes_come(hard: int) -> None:
    alike = {"easy": 4000, "middling": 4000, "hard": 4000}
    told = [
        tail(*of_classes({"easy": 6000, "middling": 3000, "hard": hard}, seed), *of_classes(alike, 99)).value
        for seed in range(40)  # of thirty images a percentile is anything: in the mean it is right
    ]
    assert np.mean(told) == pytest.approx(0.05, abs=0.005)


def test_a_class_that_no_real_image_shows_has_no_tail() -> None:
    scores, labels = np.array([-9.0, 9.0]), ["unicorn", "cell"]
    assert tail(np.linspace(0, 1, 100), ["cell"] * 100, scores, labels).value == 0.0


def test_diversity_is_the_mean_distance_within_a_prompt() -> None:
    features = np.array([[0.0], [2.0], [5.0], [7.0], [7.0]])
    found = within_prompt(features, ["a", "a", "b", "c", "c"])
    assert found == {"a": 2.0, "c": 0.0}
    assert relative(found, {"a": 4.0}) == 0.5
    assert np.isnan(relative(found, {}))


def test_kid_is_nothing_for_one_distribution_and_grows_with_distance() -> None:
    real = normal(1000, 0)
    same, near, far = (kid(real, normal(1000, 1, shift=shift)) for shift in (0.0, 0.3, 1.0))
    assert abs(same.value) < 0.05
    assert same.high < near.low < near.high < far.low


def test_the_frechet_distance_of_normal_distributions_is_the_closed_form() -> None:
    found = frechet(normal(20_000, 0, width=3), normal(20_000, 1, shift=1.0, scale=2.0, width=3))
    assert found.value == pytest.approx(3 * 1.0 + 3 * (2 - 1) ** 2, rel=0.03)
    assert found.low < found.value < found.high < found.value * 1.1
