"""What the gains of the methods say beside each other."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from benchmarks.alignment.plan import PEER
from benchmarks.report import Figure, Report
from training.evaluation.intervals import bootstrap

FRACTIONS = (1 / 16, 1 / 8, 1 / 4, 1 / 2)


@dataclass(frozen=True)
class Gained:
    """A method after some seconds of training: the mean over seeds of what each image gained, [N]."""

    seconds: float
    gain: np.ndarray

    @classmethod
    def of(cls, seconds: Sequence[float], gains: Sequence[np.ndarray]) -> Gained:
        """From one run for each seed."""
        return cls(float(np.mean(seconds)), np.mean(gains, axis=0))


def points(rows: np.ndarray, must: str | None = None, aim: str | None = None) -> Figure:
    """The mean of gains in percentage points, with its interval."""
    low, high = bootstrap(rows, np.mean)
    return Figure(100 * float(rows.mean()), "points", 100 * low, 100 * high, must, aim)


def add_race(report: Report, ours: Gained, theirs: Gained, after: Callable[[float], Gained]) -> None:
    """The default method beside the peer. after: the default method with a fraction of its seconds, trained apart;
    asked in rising order, until the peer's gain is reached."""
    name = PEER.replace(" ", "_")
    report.add(f"over_{name}_points", points(ours.gain - theirs.gain, ">= 5", ">= 15"))
    way = itertools.chain(map(after, FRACTIONS), [ours])
    needed = seconds_to_reach(
        float(theirs.gain.mean()), ((one.seconds, float(one.gain.mean())) for one in way)
    )
    share = None if needed is None else needed / theirs.seconds
    report.add(f"seconds_vs_{name}", Figure(share, "of its seconds", must="<= 0.33", aim="<= 0.1"))


def seconds_to_reach(gain: float, way: Iterable[tuple[float, float]]) -> float | None:
    """When a way of (seconds, gain) in rising seconds, which begins at (0, 0), first reaches `gain`: on the line to the
    first place that does from the one before. None: nowhere. Nothing after that place is looked at."""
    before = (0.0, 0.0)
    if gain <= before[1]:
        return 0.0
    for here in way:
        if here[1] >= gain:
            share = (gain - before[1]) / (here[1] - before[1])
            return before[0] + share * (here[0] - before[0])
        before = here
    return None
