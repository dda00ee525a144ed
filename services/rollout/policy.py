"""What to do with a rollout, decided from what is seen. Pure: a value in, a decision out; `controller.py` acts."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field

from services.rollout.analysis import ALPHA
from services.rollout.evidence import Evidence, Proof, prove, required_metrics
from vouch.types.rollout import Rollout
from vouch.types.rollout_plan import RolloutPlan
from vouch.types.serving import ReplicaReport, Serving

DEFAULT_STEPS = (5, 25, 100)
NEEDED = math.log(1 / ALPHA)
"""Log of the e-value at which is acted, 20."""


@dataclass(frozen=True, kw_only=True)
class Observation:
    """A rollout, the desired state of its slot, what its living replicas say, and what was measured of it.

    plan: None for a rollout that an operator moves by hand; then only the replicas' refusals decide.
    held_s: seconds at the present share that counted, over all lives of the controller.
    """

    rollout: Rollout
    serving: Serving
    reports: tuple[ReplicaReport, ...]
    plan: RolloutPlan | None = None
    evidence: Evidence = field(default_factory=Evidence)
    held_s: float = 0.0


@dataclass(frozen=True)
class Hold:
    """Nothing to do, and why."""

    reason: str = ""


@dataclass(frozen=True)
class RollBack:
    """Take the candidate out."""

    reason: str
    log_e: float | None = None


@dataclass(frozen=True)
class Promote:
    """Give the candidate its next share; 100 makes it the champion."""

    percent: int
    reason: str
    log_e: float


Decision = Promote | Hold | RollBack


def decide(seen: Observation) -> Decision:
    """A candidate that a replica can never load, or that is proven worse, is rolled back at once.

    It is promoted when it is proven not worse by 2 points, every guard was measured, and its hold is over. Everything
    else holds.
    """
    if seen.rollout.state != "ACTIVE":
        return Hold()
    for report in seen.reports:
        if not report.ok and report.revision == seen.serving.revision:
            return RollBack(f"replica {report.replica_id} could not load it: {report.reason}")
    if seen.plan is None or not seen.plan.automatic:
        return Hold("moves by an operator's word")
    proof = prove(seen.evidence, required_metrics(seen.rollout.percent, seen.plan.sticky))
    if proof.harmful:
        return RollBack(_harm(proof), proof.log_e_worse)
    return _onwards(seen, seen.plan, proof)


def _onwards(seen: Observation, plan: RolloutPlan, proof: Proof) -> Decision:
    obstacle = _obstacle(seen, plan, proof)
    if obstacle:
        return Hold(obstacle)
    percent = next_percent(seen.rollout.percent, plan.steps)
    pairs = seen.evidence.pairs["plausible"].total
    verdicts = e_value(proof.harmless["plausible"])
    reason = (
        f"not worse by 2 points: e = {verdicts} after {pairs} pairs; of all guards at least "
        f"e = {e_value(proof.log_e_not_worse)}"
    )
    return Promote(percent, reason, proof.log_e_not_worse)


def _obstacle(seen: Observation, plan: RolloutPlan, proof: Proof) -> str:
    """Why it is not promoted now; "" when nothing is in the way."""
    if plan.paused:
        return "paused"
    waiting = [report for report in seen.reports if not report.ok]
    if waiting:
        return f"replica {waiting[0].replica_id} could not load it yet and tries again: {waiting[0].reason}"
    if not seen.reports or converged(seen.serving, seen.reports) < len(seen.reports):
        return "not every replica serves this share yet"
    if seen.held_s < plan.hold_s:
        return f"held for {seen.held_s:.0f} of {plan.hold_s:.0f} s"
    if proof.missing:
        return f"not measured: {', '.join(proof.missing)}"
    if proof.unproven:
        name = min(proof.unproven, key=lambda one: proof.harmless[one])
        evidence = f"e = {e_value(proof.harmless[name])}, {e_value(NEEDED)} needed"
        return f"not yet proven not worse by {', '.join(map(_words, proof.unproven))} ({_words(name)}: {evidence})"
    return ""


def _harm(proof: Proof) -> str:
    name = proof.worst
    return (
        f"worse by {_words(name)}: its e = {e_value(proof.worse[name])}, "
        f"that of all metrics {e_value(proof.log_e_worse)}, and {e_value(NEEDED)} rolls back"
    )


def _words(metric: str) -> str:
    return metric.replace("_", " ")


def e_value(log_e: float) -> str:
    """An e-value as people read it: "20", "0.31", "10^45"."""
    if log_e > math.log(1e6):
        return f"10^{log_e / math.log(10):.0f}"
    return f"{math.exp(log_e):.3g}"


def next_percent(present: int, steps: Sequence[int] = DEFAULT_STEPS) -> int:
    """The step after the present share; 100 after the last."""
    return next((step for step in steps if step > present), 100)


def converged(serving: Serving, reports: Sequence[ReplicaReport]) -> int:
    """How many replicas serve exactly the desired state."""
    return sum(report.ok and report.revision == serving.revision for report in reports)
