"""What to do with a rollout, decided from what is seen. Pure: a value in, a decision out; `controller.py` acts."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from vouch.types.rollout import Rollout
from vouch.types.serving import ReplicaReport, Serving

DEFAULT_STEPS = (5, 25, 100)


@dataclass(frozen=True, kw_only=True)
class Observation:
    """A rollout, the desired state of its slot, and what its living replicas say."""

    rollout: Rollout
    serving: Serving
    reports: tuple[ReplicaReport, ...]


@dataclass(frozen=True)
class Hold:
    """Nothing to do."""


@dataclass(frozen=True)
class RollBack:
    """Take the candidate out."""

    reason: str


Decision = Hold | RollBack


def decide(seen: Observation) -> Decision:
    """A candidate that a replica cannot load is rolled back at once; moving on is the operator's word."""
    if seen.rollout.state != "ACTIVE":
        return Hold()
    for report in seen.reports:
        if not report.ok and report.revision == seen.serving.revision:
            return RollBack(f"replica {report.replica_id} could not load it: {report.reason}")
    return Hold()


def next_percent(present: int, steps: Sequence[int] = DEFAULT_STEPS) -> int:
    """The step after the present share; 100 after the last."""
    return next((step for step in steps if step > present), 100)


def converged(serving: Serving, reports: Sequence[ReplicaReport]) -> int:
    """How many replicas serve exactly the desired state."""
    return sum(report.ok and report.revision == serving.revision for report in reports)
