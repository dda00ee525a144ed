"""The figures of an overload, from calls whose fate is known."""

from __future__ import annotations

import pytest

from benchmarks.faults.overload import LONGEST_RETURN_S, Overloaded, first_of_three, overloaded
from benchmarks.load import Order, Sample

ORDER = Order("neutrophil", 0, 4)


def ended_at(moment: float, error: str = "", retry_after_s: float | None = None) -> Sample:
    return Sample(ORDER, 0.0, moment, error=error, retry_after_s=retry_after_s)


def test_calls_in_the_window_are_counted_by_their_fate() -> None:
    samples = [
        ended_at(1.0),  # before the queues were full
        ended_at(6.0),
        ended_at(7.0),
        ended_at(8.0, "Exhausted: the queue is full", 1.5),
        ended_at(9.0, "Exhausted: the queue is full"),
        ended_at(10.0, "Internal: a defect"),
        ended_at(20.0),  # after the load
    ]
    seen = overloaded(samples, 5.0, 15.0)
    assert seen == Overloaded(answered=2, refused=2, hinted=1, failed=1, seconds=10.0)


def test_goodput_is_answers_a_second_over_the_best() -> None:
    seen = Overloaded(answered=90, refused=400, hinted=400, failed=0, seconds=10.0)
    assert seen.goodput_of_best(best_s=0.1) == pytest.approx(0.9)


@pytest.mark.parametrize(
    ("calls", "back_s"),
    [
        ([(0.0, 0.1), (0.1, 0.1), (0.2, 0.1)], 0.0),
        ([(0.0, 4.0), (4.0, 0.1), (4.1, 9.0), (13.1, 0.2), (13.3, 0.2), (13.5, 0.2)], 13.1),
        ([(float(second), 1.0) for second in range(90)], LONGEST_RETURN_S),
        ([(0.0, 0.1), (0.1, 0.1)], LONGEST_RETURN_S),
    ],
)
def test_it_is_back_to_normal_with_the_first_of_three_quick_calls(
    calls: list[tuple[float, float]], back_s: float
) -> None:
    assert first_of_three(iter(calls), limit_s=0.2) == back_s
