"""Drawing calls by side: what counts as a failure of a version, and what does not."""

from __future__ import annotations

import pytest

from services.generation.sides import counted
from services.metrics import SIDE_FAILURES
from vouch.errors import Cancelled, DeadlineExceeded, Exhausted, Internal, InvalidInput, Unavailable


def failures() -> float:
    return SIDE_FAILURES.labels("candidate")._value.get()


@pytest.mark.parametrize(
    ("error", "counts"),
    [
        (InvalidInput("it never learned the word"), True),
        (DeadlineExceeded("too slow"), True),
        (Internal("a defect"), True),
        (RuntimeError("nan"), True),
        (Exhausted("the queue is full"), False),
        (Unavailable("nothing is loaded"), False),
        (Cancelled("the caller left"), False),
    ],
)
def test_a_version_fails_where_it_refuses_or_breaks_and_not_where_the_system_is_busy(error, counts):
    before = failures()
    with pytest.raises(type(error)), counted("candidate"):
        raise error
    assert failures() - before == counts


def test_a_call_of_neither_side_is_not_counted():
    before = failures()
    with pytest.raises(RuntimeError), counted(""):
        raise RuntimeError("nan")
    assert failures() == before
