"""The model of a replica against queueing theory, and the sizing built on it."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from benchmarks.capacity import validate
from benchmarks.capacity.model import (
    MOST_BUSY,
    OfferedLoad,
    ServiceTimes,
    calibration_of,
    replicas_for,
    simulate,
)
from tests.tiny import save_generator
from vouch.models.pipelines import load_generator

ONE_AT_A_TIME = ServiceTimes(((1, 1.0),), image_s=0.0, max_batch=1, step_rows=1)
"""A server with a fixed service time: the M/D/1 queue when requests arrive at random."""
BATCHING = ServiceTimes(((2, 0.015), (4, 0.023), (8, 0.042), (16, 0.081)), image_s=0.012)


@pytest.mark.parametrize("share", [0.3, 0.5, 0.8])
def test_a_server_with_a_fixed_service_time_waits_as_queueing_theory_says(share):
    found = simulate(ONE_AT_A_TIME, OfferedLoad(share, steps=1, rows=1), replicas=1, seconds=100_000)
    assert found.mean_s == pytest.approx(1 + share / (2 * (1 - share)), rel=0.08)
    assert found.busy == pytest.approx(share, rel=0.03)


def test_an_idle_replica_takes_as_long_as_its_steps():
    found = simulate(BATCHING, OfferedLoad(0.01, steps=20), replicas=1, seconds=5000)
    assert found.p50_s == pytest.approx(20 * 0.015 + 0.012, rel=0.01)


def test_steps_between_two_measured_ones_are_interpolated_and_beyond_the_last_a_row_costs_the_same():
    assert BATCHING.step(8) == 0.042
    assert BATCHING.step(12) == pytest.approx((0.042 + 0.081) / 2)
    assert BATCHING.step(1) == 0.015
    assert BATCHING.step(32) == pytest.approx(2 * 0.081)


def test_a_long_queue_is_drawn_in_larger_batches_as_the_engine_does():
    at_once = OfferedLoad(
        0.5, images=64, steps=1
    )  # 128 rows arrive together: a step of 64 rows, then 32, 16 and 16
    found = simulate(BATCHING, at_once, replicas=1, seconds=3000)
    steps = BATCHING.step(64) + BATCHING.step(32) + 2 * BATCHING.step(16)
    assert found.p50_s == pytest.approx(steps + 64 * BATCHING.image_s, rel=0.01)


@pytest.mark.parametrize(("rate", "goal"), [(3.0, 3.0), (20.0, 2.0), (100.0, 5.0)])
def test_as_many_replicas_as_it_takes_and_no_more(rate, goal):
    load = OfferedLoad(rate)
    replicas, latency = replicas_for(BATCHING, load, goal)
    assert latency.p95_s <= goal
    assert rate <= MOST_BUSY * replicas * BATCHING.images_per_s(load)
    if replicas > 1:
        fewer_are_too_busy = rate > MOST_BUSY * (replicas - 1) * BATCHING.images_per_s(load)
        seconds = max(30.0, 3000 / load.requests_per_s)
        assert fewer_are_too_busy or simulate(BATCHING, load, replicas - 1, seconds).p95_s > goal


def test_a_tighter_goal_never_takes_fewer_replicas():
    found = [replicas_for(BATCHING, OfferedLoad(20.0), goal)[0] for goal in (5.0, 1.5, 0.8)]
    assert found == sorted(found)


def test_a_goal_that_no_replica_can_meet_is_refused():
    with pytest.raises(ValueError, match="idle replica"):
        replicas_for(BATCHING, OfferedLoad(1.0, steps=50), 0.1)


def test_the_command_answers_from_the_measured_step_times(tmp_path):
    command = [
        sys.executable,
        "-m",
        "benchmarks.capacity",
        "--images-per-s",
        "4",
        "--json",
        str(tmp_path / "a.json"),
    ]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    answer = json.loads((tmp_path / "a.json").read_text())
    assert answer["replicas"] >= 1 and answer["p95_s"] <= 3.0
    kernels = Path(__file__).parents[2] / "benchmarks" / "reports" / "kernels.json"
    known = calibration_of(kernels)
    assert answer["images_per_s_of_one_full_replica"] == round(known.images_per_s(OfferedLoad(4.0)), 2)


def test_a_report_without_step_times_is_refused(tmp_path):
    (tmp_path / "empty.json").write_text('{"figures": {}}')
    with pytest.raises(ValueError, match=r"benchmarks\.kernels"):
        calibration_of(tmp_path / "empty.json")


def test_the_engine_answers_the_requests_of_a_load(tmp_path, monkeypatch):
    generator = load_generator(save_generator(tmp_path / "generator", seed=0))
    monkeypatch.setattr(validate, "SECONDS", 0.5)
    measured = validate.run(generator, OfferedLoad(20.0, steps=2), seed=0)
    assert 0 < measured.p50_s <= measured.p95_s
