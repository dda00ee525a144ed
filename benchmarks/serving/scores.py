"""The numbers that a run comes down to. Pure."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from benchmarks.serving.runs import SATURATION, Answer, ServingRun

IN_TIME = 3.0  # times what the request takes alone
SLICES = (
    5  # parts of a run that intervals resample as wholes: requests of one moment wait for the same things
)


def in_time(answer: Answer) -> bool:
    return answer.took_s is not None and answer.took_s <= IN_TIME * answer.alone_s


def latencies(run: ServingRun) -> list[float]:
    """Seconds, in the order of arrival. Who got no answer has waited until the run was over, at least."""
    counted = _inside(run) if run.load == SATURATION else run.answers
    waits = [(a.at_s, run.end_s - a.at_s if a.took_s is None else a.took_s) for a in counted]
    return [wait for _, wait in sorted(waits)]


def percentile(runs: Sequence[ServingRun], percent: float) -> float | None:
    """Of the latencies of all runs together, in seconds."""
    waits = [wait for run in runs for wait in latencies(run)]
    return float(np.percentile(waits, percent)) if waits else None


def images(answer: Answer) -> float:
    return answer.images


def image_steps(answer: Answer) -> float:
    return answer.image_steps


def good_images(answer: Answer) -> float:
    return answer.images if in_time(answer) else 0


def rates(run: ServingRun, worth: Callable[[Answer], float]) -> list[float]:
    """What was done each second, in each slice of the run.

    Over the time until the last answer; but good images over the time in which requests came, so that one late
    request does not halve what all the others got.
    """
    seconds = run.seconds if worth is good_images else run.end_s - run.begin_s
    edges = np.linspace(run.begin_s, run.end_s, SLICES + 1)[1:-1]
    sums = np.zeros(SLICES)
    for answer in _inside(run):
        sums[np.searchsorted(edges, _ended(answer))] += worth(answer)
    return list(sums / (seconds / SLICES))


def rate(runs: Sequence[ServingRun], worth: Callable[[Answer], float]) -> float | None:
    """The mean over the runs; None without any."""
    return float(np.mean([rates(run, worth) for run in runs])) if runs else None


def _inside(run: ServingRun) -> list[Answer]:
    return [a for a in run.answers if a.took_s is not None and run.begin_s <= _ended(a) <= run.end_s]


def _ended(answer: Answer) -> float:
    return answer.at_s + (answer.took_s or 0.0)
