"""Which replicas still report, by this process's own clock: the day's time may be set, here or where they run."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from datetime import datetime

from vouch.types.clock import now
from vouch.types.serving import ReplicaReport

SILENT_AFTER_S = 35.0  # replicas repeat their report every 10 seconds


class Pulses:
    """Remembers when each report was seen to change.

    A report that was never seen before is as old as its own time says, and one that has changed is no older than the
    last look.
    """

    def __init__(
        self, clock: Callable[[], float] = time.monotonic, today: Callable[[], datetime] = now
    ) -> None:
        self._clock, self._today = clock, today
        self._seen: dict[tuple[str, str], tuple[datetime, float]] = {}  # the report's time, when it came
        self._looked_at: dict[tuple[str, str], float] = {}

    def living(self, reports: Iterable[ReplicaReport]) -> tuple[ReplicaReport, ...]:
        """Those that came within the last 35 seconds."""
        moment = self._clock()
        return tuple(report for report in reports if moment - self._came(report, moment) < SILENT_AFTER_S)

    def _came(self, report: ReplicaReport, moment: float) -> float:
        key = report.slot, report.replica_id
        known = self._seen.get(key)
        if known is None or known[0] != report.reported_at:
            age = max(0.0, (self._today() - report.reported_at).total_seconds())
            if known is not None:
                age = min(age, moment - self._looked_at[key])
            self._seen[key] = (report.reported_at, moment - age)
        self._looked_at[key] = moment
        return self._seen[key][1]
