"""Errors and slow requests of both sides, read from the counters that generation replicas keep on this node."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from services.rollout.analysis import Events
from services.rollout.reading import SIDES, Readings, SideMetrics, slow_edge
from vouch.types.rollout import Rollout


class Meter:
    """Counts from the first look at a rollout on; the share at which it happened makes the stages."""

    def __init__(self, read: Callable[[], Readings]) -> None:
        self._read = read
        self._rollout = ""
        self._edge = float("inf")
        self._stages: list[tuple[int, Readings, Readings]] = []

    def __call__(self, rollout: Rollout) -> Mapping[str, tuple[Events, ...]]:
        readings = self._read()
        if rollout.rollout_id != self._rollout:
            self._rollout, self._stages = rollout.rollout_id, []
            self._edge = slow_edge(readings["champion"])
        if not self._stages or self._stages[-1][0] != rollout.percent:
            self._stages.append((rollout.percent, readings, readings))
        percent, first, _ = self._stages[-1]
        self._stages[-1] = (percent, first, readings)
        stages = [stage for stage in self._stages if 0 < stage[0] < 100]
        return {
            "errors": tuple(_events(stage, lambda reading: reading.failed) for stage in stages),
            "latency": tuple(
                _events(stage, lambda reading: reading.slower_than(self._edge)) for stage in stages
            ),
        }


def _events(stage: tuple[int, Readings, Readings], value: Callable[[SideMetrics], float]) -> Events:
    percent, before, after = stage
    counts = [max(0, round(value(after[side]) - value(before[side]))) for side in SIDES]
    return Events(counts[0], counts[1], percent / 100)
