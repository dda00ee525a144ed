from __future__ import annotations

from types import SimpleNamespace

import pytest

from services.generation.scaling import RUNNING, WAITING, Load, QueuedSlots, replicas_wanted

SLOTS = 16
IDLE, FULL = Load(0, 0), Load(16, 0)


@pytest.mark.parametrize(
    ("loads", "wanted"),
    [
        ([IDLE], 1),
        ([FULL], 1),
        ([Load(16, 1)], 2),
        ([Load(16, 16)], 2),
        ([Load(16, 17)], 3),
        ([Load(16, 8), Load(8, 0)], 2),  # as much waits as there is room for
        ([Load(16, 9), Load(8, 0)], 3),
        ([Load(16, 160), Load(16, 0)], 12),
    ],
)
def test_more_replicas_are_wanted_when_more_waits_than_free_slots_would_take_in(loads, wanted):
    assert replicas_wanted(loads, slots=SLOTS, current=len(loads)) == wanted


def test_no_further_replica_is_wanted_beside_one_that_has_nothing_to_do():
    assert replicas_wanted([Load(16, 200), IDLE], slots=SLOTS, current=2) == 2


def test_one_that_has_just_started_and_told_nothing_is_waited_for():
    assert replicas_wanted([Load(16, 200)], slots=SLOTS, current=2) == 2


@pytest.mark.parametrize(
    ("loads", "wanted"),
    [([IDLE, IDLE, IDLE], 1), ([IDLE, Load(0.2, 0), IDLE], 3), ([Load(1, 0), Load(1, 0)], 2), ([], 1)],
)
def test_fewer_are_wanted_only_when_nothing_runs_or_waits(loads, wanted):
    assert replicas_wanted(loads, slots=SLOTS, current=max(1, len(loads))) == wanted


def context(running: dict[str, float], waiting: dict[str, float], current: int) -> SimpleNamespace:
    return SimpleNamespace(
        aggregated_metrics={RUNNING: running, WAITING: waiting, "running_requests": {"a": 3.0}},
        current_num_replicas=current,
    )


def test_the_policy_reads_what_the_replicas_tell():
    policy = QueuedSlots(slots=SLOTS)
    assert policy(context({"a": 16.0, "b": 16.0}, {"a": 20.0, "b": 0.0}, current=2)) == (4, {})
    assert policy(context({"a": 0.0}, {"a": 0.0}, current=1)) == (1, {})


def test_the_policy_wants_no_more_while_nobody_has_told_anything():
    assert QueuedSlots(slots=SLOTS)(SimpleNamespace(aggregated_metrics=None, current_num_replicas=1)) == (
        1,
        {},
    )
