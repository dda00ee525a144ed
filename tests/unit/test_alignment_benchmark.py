"""The pure parts of the benchmark of alignment; its trainings run for minutes."""

from __future__ import annotations

import importlib
import json
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from benchmarks.alignment import peer
from benchmarks.alignment.figures import (
    FRACTIONS,
    Gained,
    across_seeds,
    add_race,
    gap_closed,
    points,
    seconds_to_reach,
)
from benchmarks.alignment.methods import COUNTED
from benchmarks.alignment.plan import PEER, SETTINGS
from benchmarks.report import Report
from benchmarks.serving import environments
from training.alignment.config import AlignConfig
from training.evaluation.intervals import Estimate
from vouch.recipes.alignment import ValidationSettings


def test_a_gain_is_reached_on_the_line_between_two_budgets() -> None:
    assert seconds_to_reach(0.15, [(10, 0.1), (20, 0.2)]) == pytest.approx(15)
    assert seconds_to_reach(0.05, [(10, 0.1), (20, 0.2)]) == pytest.approx(5)
    assert seconds_to_reach(0.1, [(10, 0.2), (20, 0.1)]) == pytest.approx(5)


def test_a_gain_that_is_none_takes_no_time_and_one_too_large_is_never_reached() -> None:
    assert seconds_to_reach(-0.01, [(10, -0.1)]) == 0
    assert seconds_to_reach(0.3, [(10, 0.1), (20, 0.2)]) is None


def test_no_budget_is_trained_after_the_first_that_is_enough() -> None:
    def budgets() -> Iterator[tuple[float, float]]:
        yield 10, 0.3
        raise AssertionError("trained for nothing")

    assert seconds_to_reach(0.1, budgets()) == pytest.approx(10 / 3)


def gained(seconds: float, gain: float) -> Gained:
    return Gained.of([seconds, seconds], [np.full(8, gain), np.full(8, gain)])


def raced(theirs: Gained, by_peer: Callable[[float], Gained]) -> tuple[Report, list[float]]:
    """The default method gains 40 points in 200 seconds, evenly."""
    report, asked = Report("alignment"), []

    def after(fraction: float) -> Gained:
        asked.append(fraction)
        return gained(200 * fraction, 0.4 * fraction)

    add_race(report, gained(200, 0.4), theirs, after, by_peer)
    return report, asked


def test_the_race_is_told_in_points_and_in_seconds_to_ten_points() -> None:
    report, asked = raced(gained(250, 0.2), lambda fraction: gained(250 * fraction, 0.2 * fraction))
    assert report.figures["over_trl_ddpo_points"].value == pytest.approx(20)
    assert report.figures["seconds_vs_trl_ddpo"].value == pytest.approx(50 / 125)
    assert asked == list(FRACTIONS[:3])


def test_a_peer_that_never_gains_ten_points_is_counted_with_all_of_its_seconds() -> None:
    def never(fraction: float) -> Gained:
        raise AssertionError("trained for nothing")

    figure = raced(gained(250, 0.01), never)[0].figures["seconds_vs_trl_ddpo"]
    assert figure.value == pytest.approx(50 / 250) and "at the most" in figure.unit


def test_where_the_default_method_never_gains_ten_points_there_is_no_share() -> None:
    report = Report("alignment")
    add_race(
        report,
        gained(200, 0.05),
        gained(250, 0.0),
        lambda f: gained(200 * f, 0.05 * f),
        lambda f: gained(1, 0),
    )
    assert report.figures["seconds_vs_trl_ddpo"].value is None


def table(seeds: int, prompts: int, between: float) -> np.ndarray:
    """Gains of runs that differ by `between`, each with the noise of its prompts: [S, N]."""
    random = np.random.default_rng(0)
    return 0.1 + random.normal(0, between, (seeds, 1)) + random.normal(0, 0.3, (seeds, prompts))


def test_an_interval_over_seeds_and_prompts_widens_with_what_differs_between_seeds() -> None:
    alike, apart = (points(table(5, 400, between)) for between in (0.0, 0.1))
    assert apart.high - apart.low > 1.5 * (alike.high - alike.low)
    assert alike.low < 10 < alike.high


def test_the_gap_is_measured_too_so_its_error_widens_the_share_that_is_closed() -> None:
    gains = np.full((3, 500), 0.1)
    base, few, many = np.arange(500) < 350, np.arange(60) < 54, np.arange(6000) < 5400
    certain, uncertain = (gap_closed(gains, base, real) for real in (many, few))
    assert certain.value == uncertain.value == pytest.approx(0.1 / 0.2)
    assert uncertain.high - uncertain.low > 1.2 * (certain.high - certain.low)
    assert certain.low < 0.5 < certain.high


def test_a_gap_that_may_be_nothing_sets_no_upper_bound() -> None:
    base, real = np.arange(100) < 88, np.arange(100) < 90
    figure = gap_closed(np.full((2, 100), 0.05), base, real)
    assert figure.high is None and figure.low is not None
    assert gap_closed(np.full((2, 100), 0.05), real, base).value is None


def test_a_change_over_seeds_has_the_error_of_prompts_and_what_differs_between_seeds() -> None:
    same = across_seeds([Estimate(0.02, 0.0, 0.04)] * 3)
    assert (same.value, same.low, same.high) == pytest.approx((0.02, 0.0, 0.04))
    apart = across_seeds([Estimate(value, value - 0.02, value + 0.02) for value in (-0.04, 0.02, 0.08)])
    assert apart.value == pytest.approx(0.02)
    assert apart.high - apart.value == pytest.approx(np.sqrt(0.02**2 + (1.96 * 0.06) ** 2 / 3), rel=1e-3)


def test_reward_weighting_as_a_baseline_trains_for_all_of_its_seconds() -> None:
    assert ValidationSettings().every > 0
    assert all(SETTINGS[name]["validation"] == {"every": 0} for name in ("reward_weighted", "real"))


def test_a_peer_is_told_of_the_same_generator_reward_and_lora() -> None:
    told = peer.options(Path("/base"), Path("/reward"), Path("/out"), 240.0, 3, SETTINGS[PEER])
    at = {name: told[told.index(name) + 1] for name in told if name.startswith("--")}
    assert (at["--base"], at["--reward"], at["--out"]) == ("/base", "/reward", "/out")
    assert (at["--seconds"], at["--seed"]) == ("240.0", "3")
    assert at["--rank"] == str(AlignConfig.model_fields["rank"].default)
    assert at["--threads"] == str(torch.get_num_threads())
    assert json.loads(at["--settings"]) == SETTINGS[PEER]


def test_a_method_without_its_environment_says_how_to_get_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(environments, "FOLDER", tmp_path)
    assert "--peers" in peer.why_not(PEER, make=False)
    assert peer.why_not("reward_gradient", make=False) == ""


def test_a_peers_passes_are_counted_and_told_by_the_names_that_the_report_asks_for(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """trl lives in an environment of its own; what counts the passes needs none of it."""
    absent = SimpleNamespace(DDPOConfig=None, DDPOTrainer=None, DefaultDDPOStableDiffusionPipeline=object)
    monkeypatch.setitem(sys.modules, "trl", absent)  # type: ignore[arg-type]
    unet = torch.nn.Linear(2, 2)
    passes = importlib.import_module("benchmarks.alignment.peers.on_trl").Passes(unet)
    with torch.no_grad():
        unet(torch.zeros(5, 2))
    unet(torch.zeros(3, 2))
    assert passes.figures() == {"forward_passes": 8, "backward_passes": 3}
    assert set(passes.figures()) <= set(COUNTED)
