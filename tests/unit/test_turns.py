"""Whoever would be done first if all shared equally goes first; and so nobody is done later than if all had shared."""

from __future__ import annotations

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from services.generation.turns import Turns
from tests.sharing import Job, ends_side_by_side

jobs = st.lists(
    st.builds(Job, client=st.sampled_from("abc"), arrives=st.integers(0, 30), rows=st.integers(1, 12)),
    min_size=1,
    max_size=12,
)


def ends_in_turns(jobs: list[Job]) -> list[int]:
    """When each job ends on a machine that computes one row at a time, by their turns."""
    turns, shares, left = Turns(), {}, [job.rows for job in jobs]
    ends, now = [0] * len(jobs), 0
    while any(left):
        for number, job in enumerate(jobs):
            if job.arrives == now:
                shares[number] = turns.enter(job.client, job.rows)
        now += 1
        here = [number for number in shares if left[number]]
        if here:
            soon = turns.ends()
            first = min(here, key=lambda number: (shares[number].place, soon.get(shares[number], 0)))
            left[first] -= 1
            turns.spend(1)
            ends[first] = now
    return ends


@settings(max_examples=200, deadline=None)
@given(jobs)
@example([Job("a", 0, 1), Job("a", 0, 10), Job("b", 0, 15)])
def test_nobody_ends_later_than_if_all_had_shared_the_machine(jobs):
    one_by_one, together = ends_in_turns(jobs), ends_side_by_side(jobs)
    # A newcomer may change the order between two rows; a row that has begun is not interrupted.
    assert all(early <= late + 1.5 for early, late in zip(one_by_one, together, strict=True))


def test_a_short_request_does_not_wait_for_a_long_one():
    jobs = [Job("a", 0, 100), Job("b", 3, 2)]
    assert ends_in_turns(jobs) == [102, 5]


def test_a_client_who_asks_often_only_makes_its_own_line_longer():
    turns = Turns()
    many = [turns.enter("busy", 4) for _ in range(10)]
    one = turns.enter("patient", 30)
    ends = turns.ends()
    assert ends[one] < min(ends[share] for share in many)


def test_whoever_leaves_takes_nothing_from_those_who_stay():
    turns = Turns()
    gone, stays = turns.enter("a", 50), turns.enter("b", 4)
    turns.leave(gone)
    turns.spend(4)
    assert stays.left == 0
    assert turns.left == 0
    turns.leave(gone)  # and may do so twice


@pytest.mark.parametrize("rows", [0, 5, 1000])
def test_work_beyond_what_there_is_is_nobodys(rows):
    turns = Turns()
    turns.spend(rows)
    share = turns.enter("a", 5)
    turns.spend(rows)
    assert share.left == max(0, 5 - rows)
