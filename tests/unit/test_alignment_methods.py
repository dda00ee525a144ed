"""What the benchmark of alignment makes of what was judged."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest

from benchmarks.alignment.hacked import brighter_than_most
from benchmarks.alignment.methods import MethodRuns, add_cost, add_costs, add_default
from benchmarks.report import Report
from training.evaluation.evidence import GeneratedSet


@dataclass
class Judged:
    """Stands for what was found of a version's images."""

    plausible: np.ndarray
    by_rater: np.ndarray
    seen: None = None


@dataclass
class Looked:
    real_plausible: np.ndarray | None


def judged(plausible: float, by_rater: float | None = None, count: int = 1000) -> Any:
    """So many of a thousand, the first ones."""
    shares = plausible, plausible if by_rater is None else by_rater
    return Judged(*(np.arange(count) < share * count for share in shares))


def told(runs: dict[str, MethodRuns], base: Any, real: float | None) -> dict[str, float | None]:
    report = Report("alignment")
    seen = None if real is None else np.arange(1000) < 1000 * real
    add_default(report, runs, base, Looked(seen))  # type: ignore[arg-type]
    return {name: figure.value for name, figure in report.figures.items()}


def test_gains_are_counted_beside_the_starters_images_and_in_the_mean_of_the_seeds() -> None:
    runs = {"draft": MethodRuns([judged(0.8), judged(0.9)]), "reward_weighted": MethodRuns([judged(0.7)])}
    figures = told(runs, judged(0.6), real=0.9)
    assert figures["gap_closed"] == pytest.approx((0.85 - 0.6) / (0.9 - 0.6))
    assert figures["over_rwr_points"] == pytest.approx(15.0)


def test_a_gain_that_only_the_rater_sees_is_a_disagreement() -> None:
    runs = {"draft": MethodRuns([judged(0.7, by_rater=0.8)])}
    assert told(runs, judged(0.6), real=0.9)["rater_judge_disagreement_points"] == pytest.approx(10.0)


def test_without_real_images_nothing_is_said_of_the_gap_to_them() -> None:
    assert "gap_closed" not in told({"draft": MethodRuns([judged(0.7)])}, judged(0.6), real=None)


def test_without_the_default_method_nothing_is_asked() -> None:
    assert told({"nft": MethodRuns([judged(0.7)])}, judged(0.6), real=0.9) == {}


def test_the_planted_rater_likes_what_is_brighter_than_most_of_its_class() -> None:
    grey = np.array([10, 20, 30, 200, 210, 220], np.uint8)
    images = np.broadcast_to(grey[:, None, None, None], (6, 2, 2, 3))
    liked = brighter_than_most(GeneratedSet(images, ("neutrophil",) * 3 + ("monocyte, cell size big",) * 3))
    assert liked.tolist() == [False, False, True, False, False, True]


@dataclass
class Timed:
    """Stands for a world: seconds an image by name."""

    drawn: dict[str, float]

    def seconds_an_image(self, name: str) -> float | None:
        return self.drawn.get(name)

    def seconds_a_score(self) -> float:
        return 0.1


def test_what_an_accepted_image_costs_leads_the_table_and_says_when_training_has_paid() -> None:
    world: Any = Timed({"starter": 0.9, "draft-0": 0.9, "draft-1": 0.9})
    report = Report("alignment")
    rejection = add_costs(report, world, judged(0.5), judged(0.8))
    assert next(iter(report.figures)) == "rejection_sampling_seconds_per_accepted"
    assert rejection == pytest.approx((0.9 + 0.1) / 0.5 / 0.8)
    assert report.figures["starter_seconds_per_accepted"].value == pytest.approx(1.8)
    runs = MethodRuns([judged(0.9), judged(0.9)], [150.0, 150.0], ["draft-0", "draft-1"])
    add_cost(report, world, "draft", runs, rejection)
    assert report.figures["draft_seconds_per_accepted"].value == pytest.approx(1.0)
    assert report.figures["draft_saves_per_accepted"].value == pytest.approx(1.5)
    assert report.figures["draft_pays_after"].value == pytest.approx(150 / 1.5)


def test_a_method_that_costs_more_than_rejection_saves_nothing_and_an_untimed_one_is_not_measured() -> None:
    report = Report("alignment")
    slow: Any = Timed({"slow-0": 9.0})
    add_cost(report, slow, "slow", MethodRuns([judged(0.9)], [10.0], ["slow-0"]), 2.5)
    add_cost(report, slow, "peer", MethodRuns([judged(0.9)], [10.0], ["peer-0"]), 2.5)
    assert report.figures["slow_saves_per_accepted"].value == pytest.approx(2.5 - 9.0 / 0.9)
    assert report.figures["peer_seconds_per_accepted"].value is None
    assert not {"slow_pays_after", "peer_pays_after"} & set(report.figures)
