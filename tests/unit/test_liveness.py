"""A replica is living while its reports come, whatever the clock on the wall says."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime, timedelta, timezone

import pytest

from services.rollout.liveness import SILENT_AFTER_S, ReplicaLiveness
from vouch.types.serving import ReplicaReport

NOON = datetime(2026, 1, 31, 12, tzinfo=timezone.utc)


class Clocks:
    """The monotonic clock and the day's time, which tests set apart."""

    def __init__(self) -> None:
        self.monotonic, self.day = 1000.0, NOON

    def passes(self, seconds: float) -> None:
        self.monotonic += seconds
        self.day += timedelta(seconds=seconds)


@pytest.fixture
def clocks() -> Clocks:
    return Clocks()


@pytest.fixture
def liveness(clocks: Clocks) -> ReplicaLiveness:
    """Of a controller that began before any replica."""
    liveness = ReplicaLiveness(lambda: clocks.monotonic, lambda: clocks.day)
    liveness.live("reward", [])
    return liveness


def report(at: datetime) -> ReplicaReport:
    return ReplicaReport(
        slot="reward", replica_id="r1", revision=1, ok=True, reason="", champion_version="a", reported_at=at
    )


def test_a_replica_that_falls_silent_is_gone_after_half_a_minute(
    clocks: Clocks, liveness: ReplicaLiveness
) -> None:
    last = report(clocks.day)
    assert liveness.live("reward", [last]) == (last,)
    clocks.passes(SILENT_AFTER_S - 1)
    assert liveness.live("reward", [last]) == (last,)
    clocks.passes(2)
    assert liveness.live("reward", [last]) == ()
    back = replace(last, reported_at=clocks.day)
    assert liveness.live("reward", [back]) == (back,)


@pytest.mark.parametrize("jump", [timedelta(hours=1), timedelta(hours=-1)])
def test_a_clock_that_is_set_makes_no_replica_vanish_and_none_immortal(
    clocks: Clocks, liveness: ReplicaLiveness, jump: timedelta
) -> None:
    last = report(clocks.day)
    liveness.live("reward", [last])
    clocks.day += jump
    clocks.passes(10)
    assert liveness.live("reward", [last]) == (last,)
    later = replace(last, reported_at=clocks.day)
    assert liveness.live("reward", [later]) == (later,)
    clocks.passes(SILENT_AFTER_S + 1)
    assert liveness.live("reward", [later]) == ()


@pytest.mark.parametrize("age", [timedelta(minutes=5), timedelta(0), timedelta(hours=-1)])
def test_a_report_that_was_there_before_counts_once_it_changes(clocks: Clocks, age: timedelta) -> None:
    """Whatever time it names: the clock of a replica that ended may have been an hour ahead."""
    liveness = ReplicaLiveness(lambda: clocks.monotonic, lambda: clocks.day)
    before = report(clocks.day - age)
    assert liveness.live("reward", [before]) == ()
    clocks.passes(1)
    assert liveness.live("reward", [before]) == ()
    changed = replace(before, reported_at=before.reported_at + timedelta(seconds=10))
    assert liveness.live("reward", [changed]) == (changed,)


def test_a_report_that_changed_long_before_a_look_is_old(clocks: Clocks, liveness: ReplicaLiveness) -> None:
    liveness.live("reward", [report(clocks.day)])
    changed = report(clocks.day + timedelta(seconds=10))
    clocks.passes(3600)
    assert liveness.live("reward", [changed]) == ()
