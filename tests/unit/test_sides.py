"""Drawing calls by role: what counts as a failure of a version, and what does not."""

from __future__ import annotations

import asyncio
from types import SimpleNamespace

import pytest

from services.convergence import Loaded, Routes
from services.gateway.pipeline import GenerationPipeline
from services.generation.sides import counted, role_of
from services.metrics import ROLLOUT_FAILURES
from vouch.errors import Cancelled, DeadlineExceeded, Exhausted, Internal, InvalidInput, Unavailable
from vouch.types.generation import GenerationRequest


def failures() -> float:
    return ROLLOUT_FAILURES.labels("candidate")._value.get()


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


def test_a_call_without_a_role_is_not_counted():
    before = failures()
    with pytest.raises(RuntimeError), counted(""):
        raise RuntimeError("nan")
    assert failures() == before


ALONE = Routes(1, Loaded("a", None))
BOTH = Routes(2, Loaded("a", None), Loaded("b", None), percent=5)


@pytest.mark.parametrize(
    ("routes", "digest", "role"),
    [
        (ALONE, "a", "baseline"),
        (ALONE, "b", ""),
        (BOTH, "a", "champion"),
        (BOTH, "b", "candidate"),
        (BOTH, "c", ""),
    ],
)
def test_a_request_counts_in_the_role_of_its_version(routes, digest, role):
    assert role_of(routes, GenerationRequest(prompt="monocyte", seeds=(1,)), digest) == role


def test_only_what_the_routing_table_assigned_counts_and_a_stream_once():
    def role(**values: object) -> str:
        return role_of(BOTH, GenerationRequest(prompt="monocyte", seeds=(1,), **values), "b")

    assert role(version="b") == "", "a caller named it"
    assert role(version="b", assigned=True, indices=(0, 1)) == "candidate"
    assert role(version="b", assigned=True, indices=(2, 3)) == "", "a later part of the stream"


class Describing:
    """A generation deployment whose routing table chooses "b"."""

    async def describe(self, request_id: str, version: str, client: str = "") -> SimpleNamespace:
        return SimpleNamespace(generator_version=version or "b")


@pytest.mark.parametrize(("named", "assigned"), [("", True), ("a", False)])
def test_a_stream_says_whether_its_version_was_assigned_or_named(named, assigned):
    pipeline = GenerationPipeline(Describing(), None, None, None, None)
    request = GenerationRequest(prompt="monocyte", seeds=(1,), version=named, score=False)
    pinned = asyncio.run(pipeline._pinned(request))
    assert (pinned.version, pinned.assigned) == (named or "b", assigned)
