"""Which replicas still report, by this process's own clock: the day's time may be set, here or where they run."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from datetime import datetime

from vouch.types.clock import now
from vouch.types.serving import ReplicaReport

SILENT_AFTER_S = 35.0  # replicas repeat their report every 10 seconds


class ReplicaLiveness:
    """Remembers when each report was seen to change.

    What is there at the first look may be of a replica that ended long ago: it counts once it changes. A report that
    has changed, or is new, is no older than the last look.
    """

    def __init__(
        self, clock: Callable[[], float] = time.monotonic, today: Callable[[], datetime] = now
    ) -> None:
        self._clock, self._today = clock, today
        self._seen: dict[str, dict[str, tuple[datetime, float]]] = {}
        """By slot and replica: the time in the report, and the moment at which it came."""
        self._looked_at: dict[str, float] = {}

    def live(self, slot: str, reports: Sequence[ReplicaReport]) -> tuple[ReplicaReport, ...]:
        """Of all reports of a slot, those that came within the last 35 seconds."""
        moment, known = self._clock(), self._seen.get(slot, {})
        seen = {}
        for report in reports:
            last = known.get(report.replica_id)
            if last is None or last[0] != report.reported_at:
                last = report.reported_at, moment - self._age_s(report, moment)
            seen[report.replica_id] = last
        self._seen[slot], self._looked_at[slot] = seen, moment
        return tuple(one for one in reports if moment - seen[one.replica_id][1] < SILENT_AFTER_S)

    def _age_s(self, report: ReplicaReport, moment: float) -> float:
        """Seconds, at most, since a report came that the last look did not see; infinite at the first look."""
        looked_at = self._looked_at.get(report.slot)
        if looked_at is None:
            return float("inf")
        age_s = max(0.0, (self._today() - report.reported_at).total_seconds())
        return min(age_s, moment - looked_at)
