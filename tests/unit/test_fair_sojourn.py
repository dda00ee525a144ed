"""Fair scheduling: requests finish in the order of processor sharing, and none later than under it."""

from __future__ import annotations

import math

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from services.generation.fair_sojourn import FairSojournScheduler
from tests.sharing import Job, ends_side_by_side

jobs = st.lists(
    st.builds(Job, client=st.sampled_from("abc"), arrives=st.integers(0, 30), rows=st.integers(1, 12)),
    min_size=1,
    max_size=12,
)


def ends_when_scheduled(jobs: list[Job]) -> list[int]:
    """When each job ends on a machine that computes one row at a time, in the scheduler's order."""
    scheduler, virtual, left = FairSojournScheduler(), {}, [job.rows for job in jobs]
    ends, now = [0] * len(jobs), 0
    while any(left):
        for number, job in enumerate(jobs):
            if job.arrives == now:
                virtual[number] = scheduler.add(job.client, job.rows)
        now += 1
        here = [number for number in virtual if left[number]]
        if here:
            times = scheduler.finish_times()
            first = min(here, key=lambda number: (virtual[number].finish_rank, times.get(virtual[number], 0)))
            left[first] -= 1
            scheduler.advance(1)
            ends[first] = now
    return ends


@settings(max_examples=200, deadline=None)
@given(jobs)
@example([Job("a", 0, 1), Job("a", 0, 10), Job("b", 0, 15)])
def test_nobody_ends_later_than_if_all_had_shared_the_machine(jobs):
    one_by_one, together = ends_when_scheduled(jobs), ends_side_by_side(jobs)
    # A newcomer may change the order between two rows; a row that has begun is not interrupted.
    assert all(early <= late + 1.5 for early, late in zip(one_by_one, together, strict=True))


def test_a_short_request_does_not_wait_for_a_long_one():
    jobs = [Job("a", 0, 100), Job("b", 3, 2)]
    assert ends_when_scheduled(jobs) == [102, 5]


def test_a_client_who_asks_often_delays_only_its_own_requests():
    scheduler = FairSojournScheduler()
    many = [scheduler.add("busy", 4) for _ in range(10)]
    one = scheduler.add("patient", 30)
    finish = scheduler.finish_times()
    assert finish[one] < min(finish[job] for job in many)


def test_jobs_rank_in_the_order_in_which_they_finish():
    scheduler = FairSojournScheduler()
    jobs = [scheduler.add(client, rows) for client, rows in (("a", 3), ("b", 1), ("c", 2), ("d", 9))]
    scheduler.advance(11)
    assert [job.finish_rank for job in jobs] == [2, 0, 1, math.inf]


def test_a_removed_job_costs_the_others_nothing():
    scheduler = FairSojournScheduler()
    gone, stays = scheduler.add("a", 50), scheduler.add("b", 4)
    scheduler.remove(gone)
    scheduler.advance(4)
    assert stays.remaining_rows == 0
    assert scheduler.remaining_rows == 0
    scheduler.remove(gone)  # and may do so twice


@pytest.mark.parametrize("rows", [0, 5, 1000])
def test_rows_beyond_the_queued_work_are_not_credited(rows):
    scheduler = FairSojournScheduler()
    scheduler.advance(rows)
    job = scheduler.add("a", 5)
    scheduler.advance(rows)
    assert job.remaining_rows == max(0, 5 - rows)
