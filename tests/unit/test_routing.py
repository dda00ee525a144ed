from __future__ import annotations

from collections import Counter

import pytest

from services.generation.routing import SETTLED_S, TRAVEL_S, FreeSlotsReport, Reporter, SentImages, rank
from tests.fakes import FakeClock

SLOTS = 16


def test_the_replica_with_the_most_free_slots_comes_first():
    assert rank({"a": 3, "b": 16, "c": -8}, {}) == ["b", "a", "c"]


def test_among_equals_it_goes_round():
    assert rank({"a": 4, "b": 4, "c": 4}, {"a": 3, "b": 1, "c": 2}) == ["b", "c", "a"]


@pytest.mark.parametrize(
    ("free", "first"),
    [
        ({"a": 5, "b": None}, "b"),  # has just started
        ({"a": None, "b": None}, "b"),
    ],
)
def test_one_that_has_not_reported_is_taken_to_be_as_free_as_the_freest(free, first):
    assert rank(free, {"a": 1})[0] == first


def test_no_replica_is_no_choice():
    assert rank({}, {}) == []


def test_a_burst_between_two_reports_is_shared_out_by_images():
    log, reports = (
        SentImages(FakeClock(10.0)),
        {"a": FreeSlotsReport(SLOTS, 9.0), "b": FreeSlotsReport(SLOTS, 9.0)},
    )
    images: Counter[str] = Counter()
    for number, count in enumerate([8, 1, 1, 1, 1, 4, 8, 8]):
        best = log.rank(reports)[0]
        log.note(best, str(number), count)
        images[best] += count
    assert images == {"a": 16, "b": 16}


def test_a_burst_fills_the_emptier_replica_up_before_the_other_gets_any():
    log = SentImages(FakeClock(10.0))
    reports = {"a": FreeSlotsReport(SLOTS, 9.0), "b": FreeSlotsReport(SLOTS - 6, 9.0)}
    chosen = []
    for number in range(8):
        chosen.append(log.rank(reports)[0])
        log.note(chosen[-1], str(number), 1)
    assert chosen[:6] == ["a"] * 6
    assert set(chosen[6:]) == {"a", "b"}


def test_what_was_sent_before_a_report_is_in_it():
    clock = FakeClock(10.0)
    log = SentImages(clock)
    log.note("a", "1", 10)
    clock.advance(0.3)
    other = FreeSlotsReport(8, 9.0)
    assert log.rank({"a": FreeSlotsReport(SLOTS, 9.9), "b": other}) == ["b", "a"]  # 6 against 8
    assert log.rank({"a": FreeSlotsReport(SLOTS - 4, 10.2), "b": other}) == [
        "a",
        "b",
    ]  # 12 against 8: six have ended


def test_what_was_on_its_way_when_the_replica_reported_is_not():
    clock = FakeClock(10.0)
    log = SentImages(clock)
    log.note("a", "1", 10)
    assert log.rank({"a": FreeSlotsReport(SLOTS, 10.0 + TRAVEL_S / 2), "b": FreeSlotsReport(8, 9.0)}) == [
        "b",
        "a",
    ]


def test_what_has_ended_or_is_long_past_takes_no_slots():
    clock = FakeClock(10.0)
    log, reports = (
        SentImages(clock),
        {"a": FreeSlotsReport(SLOTS, 9.0), "b": FreeSlotsReport(SLOTS - 1, 9.0)},
    )
    log.note("a", "1", 10)
    assert log.rank(reports) == ["b", "a"]
    log.done("a", "1")
    assert log.rank(reports) == ["a", "b"]
    log.note("a", "2", 10)  # given up before it was sent: nobody will say that it is done
    clock.advance(SETTLED_S + 0.1)
    assert log.rank(reports) == ["a", "b"]


def test_of_the_calls_of_one_request_one_ends_at_a_time():
    log = SentImages(FakeClock(10.0))
    reports = {"a": FreeSlotsReport(SLOTS, 9.0), "b": FreeSlotsReport(SLOTS - 4, 9.0)}
    log.note("a", "stream", 8)
    log.note("a", "stream", 8)
    log.done("a", "stream")
    assert log.rank(reports) == ["b", "a"]
    log.done("a", "stream")
    log.done("a", "stream")  # and one that was never noted
    assert log.rank(reports) == ["a", "b"]


def test_a_report_that_says_nothing_new_is_the_report_before():
    clock = FakeClock(10.0)
    reporter = Reporter(SLOTS, clock)
    clock.advance(1)
    assert reporter.report(0, 0) == {"free": SLOTS, "since": 10.0}
    assert reporter.report(16, 4) == {"free": -4, "since": 11.0}
    clock.advance(1)
    assert reporter.report(15, 5) == {"free": -4, "since": 11.0}
    assert reporter.report(0, 0) == {"free": SLOTS, "since": 12.0}
