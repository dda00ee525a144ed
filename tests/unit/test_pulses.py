"""A replica is living while its reports come, whatever the clock on the wall says."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime, timedelta, timezone

import pytest

from services.rollout.pulses import SILENT_AFTER_S, Pulses
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
def pulses(clocks: Clocks) -> Pulses:
    return Pulses(lambda: clocks.monotonic, lambda: clocks.day)


def report(at: datetime) -> ReplicaReport:
    return ReplicaReport(
        slot="reward", replica_id="r1", revision=1, ok=True, reason="", champion_version="a", reported_at=at
    )


def test_a_replica_that_falls_silent_is_gone_after_half_a_minute(clocks: Clocks, pulses: Pulses) -> None:
    last = report(clocks.day)
    assert pulses.living([last]) == (last,)
    clocks.passes(SILENT_AFTER_S - 1)
    assert pulses.living([last]) == (last,)
    clocks.passes(2)
    assert pulses.living([last]) == ()
    back = replace(last, reported_at=clocks.day)
    assert pulses.living([back]) == (back,)


@pytest.mark.parametrize("jump", [timedelta(hours=1), timedelta(hours=-1)])
def test_a_clock_that_is_set_makes_no_replica_vanish_and_none_immortal(
    clocks: Clocks, pulses: Pulses, jump: timedelta
) -> None:
    last = report(clocks.day)
    pulses.living([last])
    clocks.day += jump
    clocks.passes(10)
    assert pulses.living([last]) == (last,)
    later = replace(last, reported_at=clocks.day)
    assert pulses.living([later]) == (later,)
    clocks.passes(SILENT_AFTER_S + 1)
    assert pulses.living([later]) == ()


def test_reports_of_a_system_that_ended_are_not_living(clocks: Clocks, pulses: Pulses) -> None:
    assert pulses.living([report(clocks.day - timedelta(minutes=5))]) == ()


def test_a_report_that_changed_long_before_a_look_is_old(clocks: Clocks, pulses: Pulses) -> None:
    pulses.living([report(clocks.day)])
    changed = report(clocks.day + timedelta(seconds=10))
    clocks.passes(3600)
    assert pulses.living([changed]) == ()
