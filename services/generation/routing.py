"""Which replica takes the next images: the one with the most free slots. No Ray.

A replica reports a few times a second. What was sent to it since then is not in its report, so the sender remembers it
and takes it off; else a whole burst would go to the replica that was the emptiest when it last spoke.
"""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass

REPORT_S = 0.2  # between two reports of a replica
TRAVEL_S = 0.05  # from the choice of a replica until its engine counts the images
SETTLED_S = 2.0  # what is older than this is in the replica's report, or has ended between two of them


@dataclass(frozen=True)
class Report:
    """Free slots of a replica, below zero when images wait, and since when; seconds as `time.time` tells them."""

    free: int
    since: float


class Reporter:
    """The replica's side. Saying nothing new is saying the same: Serve broadcasts only reports that differ."""

    def __init__(self, slots: int, clock: Callable[[], float] = time.time) -> None:
        self._slots, self._clock = slots, clock
        self._last = Report(slots, clock())

    def report(self, running: int, waiting: int) -> dict[str, float]:
        """The report on so many images, as the plain values that travel."""
        free = self._slots - running - waiting
        if free != self._last.free:
            self._last = Report(free, self._clock())
        return asdict(self._last)


@dataclass(frozen=True)
class Sent:
    """Images of a request, sent at this time."""

    request: str
    images: int
    at: float


class SentImages:
    """The sender's side: what it has sent, and whom it chose how long ago. Replicas go by name."""

    def __init__(self, clock: Callable[[], float] = time.time) -> None:
        self._clock = clock
        self._sent: defaultdict[str, list[Sent]] = defaultdict(list)
        self._turns: dict[str, int] = {}
        self._turn = 0

    def note(self, replica: str, request: str, images: int) -> None:
        """The replica was chosen for these images."""
        self._turn += 1
        self._turns[replica] = self._turn
        self._sent[replica].append(Sent(request, images, self._clock()))

    def done(self, replica: str, request: str) -> None:
        """A call of the request has ended, well or not. Several calls of a request may be under way."""
        sent = self._sent[replica]
        for one in sent:
            if one.request == request:
                sent.remove(one)
                return

    def rank(self, reports: Mapping[str, Report | None]) -> list[str]:
        """The replicas, best first. None: this one has not reported yet."""
        return rank({name: self._free(name, report) for name, report in reports.items()}, self._turns)

    def _free(self, replica: str, report: Report | None) -> int | None:
        if report is None:
            return None
        known = max(report.since - TRAVEL_S, self._clock() - SETTLED_S)
        self._sent[replica] = [one for one in self._sent[replica] if one.at > known]
        return report.free - sum(one.images for one in self._sent[replica])


def rank(free: Mapping[str, int | None], turns: Mapping[str, int]) -> list[str]:
    """Most free slots first; among equals, the one whose turn is the longest ago.

    One that has not reported has just started, so it is taken to be as free as the freest.
    """
    unknown = max((slots for slots in free.values() if slots is not None), default=0)

    def order(name: str) -> tuple[int, int]:
        slots = free[name]
        return -(unknown if slots is None else slots), turns.get(name, 0)

    return sorted(free, key=order)
