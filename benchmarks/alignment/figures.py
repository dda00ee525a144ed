"""What the gains of the methods say beside each other."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable, Sequence
from dataclasses import astuple, dataclass

import numpy as np

from benchmarks.alignment.plan import PEER
from benchmarks.report import Figure, Report
from training.evaluation.intervals import Z95, Estimate, bootstrap_two_way

FRACTIONS = (1 / 16, 1 / 8, 1 / 4, 1 / 2)
WANTED = 0.10
"""The gain whose time is compared: the time to no gain at all means nothing."""
ROUNDS = 2000


@dataclass(frozen=True)
class Gained:
    """A method after some seconds of training: what each image gained, [S, N] of S training seeds and N prompts."""

    seconds: float
    gain: np.ndarray

    @classmethod
    def of(cls, seconds: Sequence[float], gains: Sequence[np.ndarray]) -> Gained:
        """From one run for each seed."""
        return cls(float(np.mean(seconds)), np.stack(list(gains)))


def points(gains: np.ndarray, must: str | None = None, aim: str | None = None) -> Figure:
    """The mean of gains [S, N] in percentage points; training seeds and prompts are resampled."""
    low, high = bootstrap_two_way(gains)
    return Figure(100 * float(gains.mean()), "points", 100 * low, 100 * high, must, aim)


def gap_closed(gains: np.ndarray, base: np.ndarray, real: np.ndarray) -> Figure:
    """The mean of gains [S, N] as a share of the gap between the starter's plausible images [N] and real ones [U], all
    bool or float. The gap is measured too: seeds, prompts and real images are resampled together.

    A bound is None where the resampled gap can be nothing: then the share has no bound.
    """
    random, found = np.random.default_rng(0), []
    for _ in range(ROUNDS):
        rows, columns = (random.integers(0, size, size) for size in gains.shape)
        gap = real[random.integers(0, len(real), len(real))].mean() - base[columns].mean()
        found.append(gains[np.ix_(rows, columns)].mean() / gap if gap > 0 else np.inf)
    low, high = (
        None if np.isinf(bound) else float(bound)
        for bound in np.quantile(found, [0.025, 0.975], method="lower")
    )
    return Figure(_share(gains, real.mean() - base.mean()), "share", low, high, ">= 0.6", ">= 0.9")


def _share(gains: np.ndarray, gap: float) -> float | None:
    return float(gains.mean() / gap) if gap > 0 else None


def across_seeds(estimates: Sequence[Estimate]) -> Estimate:
    """The mean of one figure over training seeds, each with the interval of its prompts. Seeds share their prompts, so
    their own intervals do not shrink with the number of seeds; what differs between seeds does."""
    table = np.array([astuple(estimate) for estimate in estimates])
    value, between = table[:, 0].mean(), 0.0
    if len(table) > 1:
        between = float((Z95 * table[:, 0].std(ddof=1)) ** 2 / len(table))
    below, above = (
        np.sqrt((side**2).mean() + between) for side in (table[:, 0] - table[:, 1], table[:, 2] - table[:, 0])
    )
    return Estimate(float(value), float(value - below), float(value + above))


def add_race(
    report: Report,
    ours: Gained,
    theirs: Gained,
    after: Callable[[float], Gained],
    after_by_peer: Callable[[float], Gained],
) -> None:
    """The default method beside the peer: its gain, and the seconds to WANTED as a share of the peer's.

    after: the default method with a fraction of its seconds, trained apart; asked in rising order, until the gain is
    reached. It is only asked where the method gets there in the end. after_by_peer: likewise the peer: where it does
    not get there, its whole time stands for it, and the share is at the most what is told.
    """
    name = PEER.replace(" ", "_")
    report.add(f"over_{name}_points", points(ours.gain - theirs.gain, ">= 5", ">= 15"))
    reached = float(theirs.gain.mean()) >= WANTED
    needed = _seconds_to(WANTED, ours, after) if float(ours.gain.mean()) >= WANTED else None
    their_time = _seconds_to(WANTED, theirs, after_by_peer) if reached else theirs.seconds
    share = None if needed is None or not their_time else needed / their_time
    unit = (
        "of its seconds to +10 points"
        if reached
        else "of its seconds, at the most: it never gained 10 points"
    )
    report.add(f"seconds_vs_{name}", Figure(share, unit, must="<= 0.33", aim="<= 0.1"))


def _seconds_to(gain: float, whole: Gained, after: Callable[[float], Gained]) -> float | None:
    way = itertools.chain(map(after, FRACTIONS), [whole])
    return seconds_to_reach(gain, ((one.seconds, float(one.gain.mean())) for one in way))


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
