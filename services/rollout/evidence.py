"""What was measured of a candidate beside the champion, and what it proves. Pure; `analysis.py` has the mathematics."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from services.rollout.analysis import (
    ALPHA,
    GUARD_MARGIN,
    MARGIN,
    WEIGHTS,
    Counts,
    Events,
    LogE,
    PairCounts,
    combined,
    log_e_average,
    log_e_events,
    log_e_events_not_worse,
    log_e_not_shifted,
    log_e_not_worse,
    log_e_shifted,
    log_e_worse,
)

VERDICTS = ("plausible", "experts")
"""Metrics that say whether a picture is right. Here the candidate may not be worse at all."""
GUARDS = ("diversity", "near_duplicates")
"""Metrics that a reward can be fooled by. Here the candidate may not be worse by more than `GUARD_MARGIN`."""
STATISTICS = ("brightness", "contrast", "saturation", "sharpness")
"""Of whole pictures: `worse` counts the pairs that moved up, `better` those that moved down."""
COUNTS = ("errors", "latency")
"""Metrics of requests. Errors are counted in pairs too: an image that one of the versions alone cannot draw."""
REQUIRED = ("plausible", *GUARDS, *STATISTICS)
"""Without them nothing is promoted; where requests are assigned one by one, not without `COUNTS` either."""


@dataclass(frozen=True, kw_only=True)
class Evidence:
    """Everything counted so far in one rollout. A metric that is absent was not measured."""

    pairs: Mapping[str, PairCounts] = field(default_factory=dict)
    events: Mapping[str, tuple[Events, ...]] = field(default_factory=dict)

    def plus(self, pairs: Mapping[str, PairCounts]) -> Evidence:
        """With further pairs."""
        names = {*self.pairs, *pairs}
        added = {name: self.pairs.get(name, PairCounts()) + pairs.get(name, PairCounts()) for name in names}
        return Evidence(pairs=added, events=self.events)

    def as_json(self) -> dict[str, object]:
        """The counts as JSON keeps them."""
        pairs = {name: [one.worse, one.better, one.ties] for name, one in sorted(self.pairs.items())}
        events = {
            name: [[one.candidate, one.champion, one.share, one.good] for one in stages]
            for name, stages in sorted(self.events.items())
        }
        return {"pairs": pairs, "events": events}

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> Evidence:
        """The inverse of `as_json`; {} is no evidence."""
        pairs = {name: PairCounts(*map(int, counts)) for name, counts in value.get("pairs", {}).items()}
        events = {
            name: tuple(
                Events(int(a), int(b), float(share), *map(int, good)) for a, b, share, *good in stages
            )
            for name, stages in value.get("events", {}).items()
        }
        return cls(pairs=pairs, events=events)


@dataclass(frozen=True, kw_only=True)
class Proof:
    """What the evidence proves at this look. Logarithms of e-values."""

    worse: Mapping[str, float]  # by metric: against "not worse"
    log_e_worse: float  # of all metrics together; log(1/α) rolls back
    harmless: Mapping[
        str, float
    ]  # by required metric: against "worse by its margin"; log(1/α) of each promotes
    missing: tuple[str, ...]  # what a promotion asks for and was not measured

    @property
    def harmful(self) -> bool:
        return self.log_e_worse >= math.log(1 / ALPHA)

    @property
    def unproven(self) -> tuple[str, ...]:
        """What keeps it from being promoted."""
        return tuple(name for name, value in self.harmless.items() if value < math.log(1 / ALPHA))

    @property
    def log_e_not_worse(self) -> float:
        """The least of all: so sure is the promotion."""
        return min(self.harmless.values(), default=0.0)

    @property
    def worst(self) -> str:
        """The metric that says the most against the candidate, by its share of α; "" without any."""
        weighed = {name: math.log(WEIGHTS[name]) + value for name, value in self.worse.items()}
        return max(weighed, key=lambda name: weighed[name], default="")


def required_metrics(percent: int, sticky: bool) -> tuple[str, ...]:
    """What a promotion from this share asks for.

    Requests are compared where each is assigned by itself. A shadow gets none, and a sticky rollout assigns clients:
    the requests of one client are no independent evidence.
    """
    return REQUIRED if sticky or percent == 0 else (*REQUIRED, *COUNTS)


def prove(evidence: Evidence, wanted: Sequence[str] = REQUIRED) -> Proof:
    """The e-values of this evidence. wanted: what a promotion asks for.

    Raises KeyError for a metric without a share of α.
    """
    worse = {name: log_e_harm(name, pairs) for name, pairs in evidence.pairs.items() if pairs.total}
    for name, stages in evidence.events.items():
        if stages:
            requests = log_e_events(stages)
            worse[name] = log_e_average(worse[name], requests) if name in worse else requests
    return Proof(
        worse=worse,
        log_e_worse=combined(worse),
        harmless={name: _log_e_harmless(name, evidence) for name in wanted},
        missing=tuple(name for name in wanted if not _measured(name, evidence)),
    )


def _measured(name: str, evidence: Evidence) -> Counts:
    """Pairs or requests."""
    if name in COUNTS:
        return sum(stage.requests for stage in evidence.events.get(name, ()))
    return evidence.pairs.get(name, PairCounts()).total


def log_e_harm(name: str, pairs: PairCounts) -> LogE:
    """Log e-value against "not worse" by a metric of pairs."""
    if name in STATISTICS:
        return log_e_shifted(pairs)
    return log_e_worse(pairs, GUARD_MARGIN if name in GUARDS else 0.0)


def _log_e_harmless(name: str, evidence: Evidence) -> LogE:
    if name in COUNTS:
        return log_e_events_not_worse(evidence.events.get(name, ()))
    pairs = evidence.pairs.get(name, PairCounts())
    if name in STATISTICS:
        return log_e_not_shifted(pairs)
    return log_e_not_worse(pairs, MARGIN if name in VERDICTS else GUARD_MARGIN)
