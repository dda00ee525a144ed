"""The pure parts of the benchmark of alignment; its trainings run for minutes."""

from __future__ import annotations

import importlib
import json
import sys
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from benchmarks.alignment import peer
from benchmarks.alignment.figures import FRACTIONS, Gained, add_race, seconds_to_reach
from benchmarks.alignment.methods import COUNTED
from benchmarks.alignment.plan import PEER, SETTINGS
from benchmarks.report import Report
from benchmarks.serving import environments
from training.alignment.loop import AlignConfig


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


def test_the_race_is_told_in_points_and_in_shares_of_the_peers_seconds() -> None:
    def gained(seconds: float, gain: float) -> Gained:
        return Gained.of([seconds, seconds], [np.full(8, gain), np.full(8, gain)])

    report, asked = Report("alignment"), []

    def after(fraction: float) -> Gained:
        asked.append(fraction)
        return gained(200 * fraction, 0.4 * fraction)

    add_race(report, gained(200, 0.4), gained(250, 0.075), after)
    assert report.figures["over_trl_ddpo_points"].value == pytest.approx(32.5)
    assert report.figures["seconds_vs_trl_ddpo"].value == pytest.approx(37.5 / 250)
    assert asked == list(FRACTIONS[:3])


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
