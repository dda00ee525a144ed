"""What the benchmark of alignment makes of what was judged."""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from benchmarks.alignment import world
from benchmarks.alignment.hacked import brighter_than_most
from benchmarks.alignment.methods import MethodRuns, add_cost, add_costs, add_default
from benchmarks.alignment.plan import AlignmentPlan
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


def test_what_an_accepted_image_costs_leads_the_table_and_says_when_training_has_paid() -> None:
    report = Report("alignment")
    costs = {"starter": (0.9, judged(0.5)), "rejection_sampling": ((0.9 + 0.1) / 0.5, judged(0.8))}
    rejection = add_costs(report, costs)
    assert next(iter(report.figures)) == "rejection_sampling_seconds_per_accepted"
    assert rejection == pytest.approx((0.9 + 0.1) / 0.5 / 0.8)
    assert report.figures["starter_seconds_per_accepted"].value == pytest.approx(1.8)
    add_cost(report, "draft", MethodRuns([judged(0.9), judged(0.9)], [150.0, 150.0]), 0.9, rejection)
    assert report.figures["draft_seconds_per_accepted"].value == pytest.approx(1.0)
    assert report.figures["draft_saves_per_accepted"].value == pytest.approx(1.5)
    assert report.figures["draft_pays_after"].value == pytest.approx(150 / 1.5)


def test_a_method_that_costs_more_than_rejection_saves_nothing() -> None:
    report = Report("alignment")
    add_cost(report, "slow", MethodRuns([judged(0.9)], [10.0]), 9.0, 2.5)
    assert report.figures["slow_saves_per_accepted"].value == pytest.approx(2.5 - 9.0 / 0.9)
    assert "slow_pays_after" not in report.figures


def test_all_versions_take_turns_when_an_image_is_timed(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """The machine slows down from round to round: whoever comes first gains nothing by it."""
    loaded = {None: 1.0, tmp_path: 2.0}
    slower = itertools.count(1)
    monkeypatch.setattr(
        world, "load_generator", lambda folder, base: loaded[None if folder == base else folder]
    )
    monkeypatch.setattr(world, "_seconds", lambda generator: generator * (next(slower) // 2))
    seconds = world.World(tmp_path, AlignmentPlan(), None).seconds_an_image(
        {"starter": None, "draft": tmp_path}
    )
    assert seconds["draft"] / seconds["starter"] == pytest.approx(2.0, rel=0.4)
