"""The search over schedules: silent on the product, and it finds every planted fault."""

from __future__ import annotations

import pytest

from benchmarks.faults import search
from benchmarks.faults.planted import PLANTED
from benchmarks.faults.schedule import LENGTH

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1800)]

SEEDS = range(60)


def test_nothing_is_wrong_with_the_product(here: search.Place) -> None:
    assert here.search(range(6)) is None


@pytest.mark.parametrize("name", PLANTED)
def test_a_planted_fault_is_found(here: search.Place, name: str) -> None:
    assert here.search(SEEDS, PLANTED[name], shorten=False) is not None


def test_a_failing_schedule_is_made_shorter_and_still_fails(here: search.Place) -> None:
    plant = PLANTED["acknowledged before commit"]
    failure = here.search(SEEDS, plant)
    assert failure is not None
    assert 0 < len(failure.turns) < LENGTH
    assert here.run(failure.turns, plant)
    assert here.run(failure.turns) == ""
