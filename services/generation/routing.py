"""Routing by free slots: the replica with the most free slots takes the next images. No Ray.

A replica reports a few times a second. Images sent since its report are not in it, so the sender counts them and
subtracts them; else a whole burst would go to the replica that was the emptiest at its last report.
"""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass

REPORT_S = 0.2  # between two reports of a replica
TRAVEL_S = 0.05  # from the choice of a replica until its engine counts the images
SETTLED_S = 2.0  # a dispatch older than this is in the replica's report, or has ended between two reports


@dataclass(frozen=True)
class FreeSlotsReport:
    """The free slots of a replica."""

    free: int
    """Below zero when images wait."""
    since: float
    """`time.time()` of the last change, in seconds."""


class Reporter:
    """The replica's side. An unchanged load gives an equal report: Serve broadcasts only reports that differ."""

    def __init__(self, slots: int, clock: Callable[[], float] = time.time) -> None:
        self._slots, self._clock = slots, clock
        self._last = FreeSlotsReport(slots, clock())

    def report(self, running: int, waiting: int) -> dict[str, float]:
        """The report on so many images, as plain values for Serve."""
        free = self._slots - running - waiting
        if free != self._last.free:
            self._last = FreeSlotsReport(free, self._clock())
        return asdict(self._last)


@dataclass(frozen=True)
class Dispatch:
    """Images of a request, and the time at which they were sent."""

    request: str
    images: int
    at: float


class SentImages:
    """The sender's side: recent dispatches, and the order in which replicas were chosen. Replicas go by name."""

    def __init__(self, clock: Callable[[], float] = time.time) -> None:
        self._clock = clock
        self._sent: defaultdict[str, list[Dispatch]] = defaultdict(list)
        self._last_choices: dict[str, int] = {}
        self._choices = 0

    def note(self, replica: str, request: str, images: int) -> None:
        """The replica was chosen for these images."""
        self._choices += 1
        self._last_choices[replica] = self._choices
        self._sent[replica].append(Dispatch(request, images, self._clock()))

    def done(self, replica: str, request: str) -> None:
        """A call of the request has ended, well or not. Several calls of a request may be under way."""
        dispatches = self._sent[replica]
        for dispatch in dispatches:
            if dispatch.request == request:
                dispatches.remove(dispatch)
                return

    def rank(self, reports: Mapping[str, FreeSlotsReport | None]) -> list[str]:
        """The replicas, best first. None: no report yet."""
        return rank({name: self._free(name, report) for name, report in reports.items()}, self._last_choices)

    def _free(self, replica: str, report: FreeSlotsReport | None) -> int | None:
        if report is None:
            return None
        known = max(report.since - TRAVEL_S, self._clock() - SETTLED_S)
        self._sent[replica] = [sent for sent in self._sent[replica] if sent.at > known]
        return report.free - sum(sent.images for sent in self._sent[replica])


def rank(free: Mapping[str, int | None], last_choices: Mapping[str, int]) -> list[str]:
    """Most free slots first; among equals, the least recently chosen first.

    A replica without a report has just started and counts as free as the freest.
    """
    unknown = max((slots for slots in free.values() if slots is not None), default=0)

    def order(name: str) -> tuple[int, int]:
        slots = free[name]
        return -(unknown if slots is None else slots), last_choices.get(name, 0)

    return sorted(free, key=order)
