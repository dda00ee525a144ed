"""The simulation of schedulers: simulated time, the engine's own step scheduler."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from benchmarks.scheduling import KERNELS, SCHEDULERS, SimulatedJob, jobs, run, step_seconds, ticket_of

ROOT = Path(__file__).parents[2]
SECONDS = np.full(65, 0.1)
SECONDS[0] = 0.0


def job(arrives: float, count: int, steps: int) -> SimulatedJob:
    return SimulatedJob(arrives, 1.0, ticket_of(count, steps, 1.0, str(arrives)), count)


@pytest.mark.parametrize("name", SCHEDULERS)
def test_a_request_that_is_alone_takes_its_steps_and_its_pixels(name: str) -> None:
    only = job(2.0, 2, 10)
    run(SCHEDULERS[name](32, 16), [only], SECONDS)
    assert only.took == pytest.approx(10 * 0.1 + 2 * 0.012)


@pytest.mark.parametrize("name", SCHEDULERS)
def test_every_job_ends(name: str) -> None:
    coming = [job(0.01 * number, 1 + number % 4, 10 + number) for number in range(30)]
    run(SCHEDULERS[name](8, 4), coming, SECONDS)
    assert all(job.left == 0 and job.ends > job.arrives for job in coming)


def test_a_short_request_waits_for_long_ones_only_when_all_go_side_by_side() -> None:
    took = {}
    for name in ("fair", "side_by_side"):
        coming = [job(0.0, 4, 50), job(0.1, 1, 10)]
        run(SCHEDULERS[name](32, 4), coming, np.arange(65) * 0.1)
        took[name] = coming[1].took
    assert took["fair"] < took["side_by_side"]


def test_step_times_are_those_that_were_measured_and_lines_between() -> None:
    seconds = step_seconds(ROOT / KERNELS, "eager")
    assert seconds[1] < seconds[2] < seconds[3] < seconds[4]
    assert seconds[3] == pytest.approx((seconds[2] + seconds[4]) / 2)


def test_the_same_seed_is_the_same_trace() -> None:
    alone = step_seconds(ROOT / KERNELS, "eager")
    first, second = jobs(0.6, 1, alone), jobs(0.6, 1, alone)
    assert [job.arrives for job in first] == [job.arrives for job in second]
