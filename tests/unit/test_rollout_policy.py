"""Promote, hold or roll back, as tables of what was seen."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest

from services.rollout.analysis import Events, PairCounts
from services.rollout.evidence import GUARDS, REQUIRED, STATISTICS, Evidence, prove, required_metrics
from services.rollout.policy import Hold, Observation, Promote, RollBack, decide, e_value
from vouch.types.clock import now
from vouch.types.rollout import Rollout
from vouch.types.rollout_plan import RolloutPlan
from vouch.types.serving import ReplicaReport, Serving

EQUAL = PairCounts(worse=150, better=150, ties=2700)
CLEAN = Events(0, 0, 0.05, good=5000)
PROVEN = Evidence(
    pairs={name: EQUAL if name == "plausible" else PairCounts(ties=3000) for name in REQUIRED},
    events={"errors": (CLEAN,), "latency": (CLEAN,)},
)


def seen(
    evidence: Evidence = PROVEN, *, held_s: float = 600, percent: int = 5, **plan: object
) -> Observation:
    moment = now()
    return Observation(
        rollout=Rollout(
            rollout_id="rollout-1", slot="generator", version="b", previous_version="a",
            state="ACTIVE", percent=percent,
            events=(), created_at=moment, updated_at=moment,
        ),
        serving=Serving(slot="generator", champion="a", candidate="b", percent=percent, revision=7),
        reports=(ReplicaReport(slot="generator", replica_id="r1", revision=7, ok=True),),
        plan=replace(RolloutPlan(steps=(5, 25, 100), hold_s=600), **plan),
        evidence=evidence,
        held_s=held_s,
    )  # fmt: skip


def with_pairs(**pairs: PairCounts) -> Evidence:
    return replace(PROVEN, pairs={**PROVEN.pairs, **pairs})


def with_events(**events: Events) -> Evidence:
    return replace(PROVEN, events={**PROVEN.events, **{name: (one,) for name, one in events.items()}})


@pytest.mark.parametrize(("percent", "following"), [(0, 5), (5, 25), (25, 100)])
def test_what_is_proven_not_worse_moves_on_by_its_steps(percent, following):
    decision = decide(seen(percent=percent))
    assert isinstance(decision, Promote)
    assert decision.percent == following
    assert "not worse by 2 points" in decision.reason
    assert decision.log_e == prove(PROVEN, required_metrics(percent, sticky=False)).log_e_not_worse


@pytest.mark.parametrize(
    ("observation", "why"),
    [
        (seen(held_s=599), "held for 599 of 600 s"),
        (seen(paused=True), "paused"),
        (seen(Evidence()), "not measured: plausible"),
        (seen(with_pairs(plausible=PairCounts(worse=2, better=2, ties=40))), "not yet proven"),
        (seen(with_pairs(diversity=PairCounts())), "not measured: diversity"),
        (seen(replace(PROVEN, events={})), "not measured: errors, latency"),
        (seen(with_events(errors=Events(0, 0, 0.05))), "not measured: errors"),
        (seen(with_events(errors=Events(0, 0, 0.05, good=100))), "not worse by errors"),
        (replace(seen(), reports=()), "not every replica"),
        (
            replace(seen(), reports=(ReplicaReport(slot="generator", replica_id="r1", revision=6, ok=True),)),
            "not every replica",
        ),
    ],
    ids=[
        "too early",
        "paused",
        "nothing",
        "few pairs",
        "a guard is missing",
        "no traffic",
        "no request",
        "few requests",
        "no replica",
        "one behind",
    ],
)
def test_what_is_not_proven_is_held_and_says_why(observation, why):
    decision = decide(observation)
    assert isinstance(decision, Hold)
    assert why in decision.reason


def test_a_replica_that_cannot_load_it_yet_holds_and_one_that_never_can_rolls_back():
    report = ReplicaReport(slot="generator", replica_id="r1", revision=6, ok=False, reason="no room")
    decision = decide(replace(seen(), reports=(report,)))
    assert isinstance(decision, Hold)
    assert "r1 could not load it yet and tries again: no room" in decision.reason
    assert isinstance(decide(replace(seen(), reports=(replace(report, revision=7),))), RollBack)


@pytest.mark.parametrize("name", ["plausible", "experts", *GUARDS, *STATISTICS])
@pytest.mark.parametrize("paused", [False, True])
def test_every_metric_can_take_a_candidate_out_at_once_even_while_paused(name, paused):
    decision = decide(seen(with_pairs(**{name: PairCounts(worse=40, ties=10)}), held_s=0, paused=paused))
    assert isinstance(decision, RollBack)
    assert name.replace("_", " ") in decision.reason


@pytest.mark.parametrize("name", ["errors", "latency"])
def test_failing_and_slow_requests_take_it_out(name):
    decision = decide(seen(with_events(**{name: Events(candidate=12, champion=10, share=0.05, good=5000)})))
    assert isinstance(decision, RollBack)
    assert name in decision.reason
    even = with_events(**{name: Events(candidate=1, champion=19, share=0.05, good=5000)})
    assert isinstance(decide(seen(even)), Promote)


def test_where_requests_are_not_assigned_one_by_one_pairs_alone_decide():
    pairs = replace(PROVEN, events={})
    assert isinstance(decide(seen(pairs, sticky=True)), Promote)
    assert isinstance(decide(seen(pairs, percent=0, shadow=True)), Promote)


def test_images_that_the_candidate_alone_cannot_draw_take_it_out():
    few = {"plausible": PairCounts(worse=9, ties=20), "errors": PairCounts(worse=9, ties=20)}
    decision = decide(seen(Evidence(pairs=few)))
    assert isinstance(decision, RollBack)
    assert prove(Evidence(pairs={"errors": PairCounts(worse=12)})).harmful


def test_errors_of_requests_and_of_pairs_are_averaged():
    pairs, events = {"errors": PairCounts(worse=5)}, {"errors": (Events(3, 10, 0.05),)}
    alone = [
        math.exp(prove(Evidence(**one)).worse["errors"]) for one in ({"pairs": pairs}, {"events": events})
    ]
    both = prove(Evidence(pairs=pairs, events=events)).worse["errors"]
    assert math.exp(both) == pytest.approx(sum(alone) / 2)


def test_a_darker_candidate_is_found_as_a_brighter_one():
    assert isinstance(decide(seen(with_pairs(brightness=PairCounts(better=40, ties=10)))), RollBack)


def test_harm_comes_before_proof():
    """A candidate that is as plausible and draws copies is not promoted."""
    assert isinstance(decide(seen(with_pairs(near_duplicates=PairCounts(worse=60, ties=40)))), RollBack)


def test_evidence_is_kept_as_json_and_read_again():
    stages = (Events(1, 2, 0.05, good=30), Events(0, 3, 0.25))
    evidence = Evidence(pairs=PROVEN.pairs, events={"errors": stages})
    assert Evidence.from_json(evidence.as_json()) == evidence
    assert Evidence.from_json({"events": {"errors": [[0, 3, 0.25]]}}).events["errors"] == stages[1:]
    assert Evidence.from_json({"cursor": 7}) == Evidence()


def test_pairs_add_up():
    more = (
        Evidence()
        .plus({"plausible": PairCounts(1, 2, 3)})
        .plus({"plausible": PairCounts(1, 0, 0), "sharpness": PairCounts(0, 1, 0)})
    )
    assert more.pairs == {"plausible": PairCounts(2, 2, 3), "sharpness": PairCounts(0, 1, 0)}


@pytest.mark.parametrize(
    ("log_e", "text"), [(0.0, "1"), (2.9957, "20"), (-1.0, "0.368"), (230.2585, "10^100")]
)
def test_e_values_read_as_numbers(log_e, text):
    assert e_value(log_e) == text
