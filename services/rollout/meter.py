"""Errors and slow requests of both sides, read from the counters that generation replicas keep on this node."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

from services.rollout.analysis import Events
from services.rollout.evidence import Evidence
from services.rollout.reading import SIDES, Readings, RoleMetrics, slow_edge
from vouch.types.rollout import Rollout

NOTES = "requests"
"""The key of `notes` in what the controller keeps of a rollout."""
Sample = tuple[int, ...]
"""Requests and bad ones of the candidate, then of the champion, since their counters began."""


class RequestEventCounter:
    """Adds up, at each share, what the counters gained between two looks. Its successor goes on from its notes.

    What a change of the share comes between is left out: replicas follow one after the other. Nothing is counted where
    requests are not assigned one by one, in a shadow and in a sticky rollout.
    """

    def __init__(self, read: Callable[[], Readings]) -> None:
        self._read = read
        self._rollout, self._percent = "", 0
        self._edge: float | None = None
        self._events: dict[str, tuple[Events, ...]] = {}
        self._before: dict[str, Sample] = {}

    def events(self, rollout: Rollout) -> Mapping[str, tuple[Events, ...]]:
        """Stages by metric, one for each share."""
        if rollout.rollout_id != self._rollout:
            self._adopt(rollout)
        if _assigns_requests(rollout):
            for name, sample in self._samples(self._read()).items():
                if name in self._before and rollout.percent == self._percent:
                    self._add(name, sample)
                self._before[name] = sample
            self._percent = rollout.percent
        return dict(self._events)

    def notes(self) -> dict[str, object]:
        """The last sample and the edge of slow requests."""
        before = {name: list(sample) for name, sample in self._before.items()}
        return {NOTES: {"percent": self._percent, "slow_edge": self._edge, "before": before}}

    def _adopt(self, rollout: Rollout) -> None:
        kept: Mapping[str, Any] = rollout.plan.evidence if rollout.plan else {}
        notes = kept.get(NOTES, {})
        self._rollout, self._percent = rollout.rollout_id, int(notes.get("percent", 0))
        self._events, self._edge = dict(Evidence.from_json(kept).events), notes.get("slow_edge")
        self._before = {name: tuple(sample) for name, sample in notes.get("before", {}).items()}

    def _samples(self, readings: Readings) -> dict[str, Sample]:
        """By metric; latency only once its edge is fixed."""
        samples = {"errors": _sample(readings, lambda role: role.failed)}
        self._edge = slow_edge(readings) if self._edge is None else self._edge
        edge = self._edge
        if edge is not None:
            samples["latency"] = _sample(readings, lambda role: role.slower_than(edge))
        return samples

    def _add(self, name: str, sample: Sample) -> None:
        gained = [after - before for after, before in zip(sample, self._before[name], strict=True)]
        if min(gained) < 0:  # the counters began anew
            return
        requests, bad, others, bad_others = gained
        share, stages = self._percent / 100, self._events.get(name, ())
        if not stages or stages[-1].share != share:
            stages = (*stages, Events(0, 0, share))
        last = stages[-1]
        last = replace(
            last,
            candidate=last.candidate + bad,
            champion=last.champion + bad_others,
            good=last.good + requests - bad + others - bad_others,
        )
        self._events[name] = (*stages[:-1], last)


def _assigns_requests(rollout: Rollout) -> bool:
    return 0 < rollout.percent < 100 and not (rollout.plan is not None and rollout.plan.sticky)


def _sample(readings: Readings, bad: Callable[[RoleMetrics], float]) -> Sample:
    roles = [readings[side] for side in SIDES]
    return tuple(round(count) for role in roles for count in (role.failed + role.timed, bad(role)))
