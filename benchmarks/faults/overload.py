"""More than a system can answer: five times the load, readers that do not read, channels on which nobody asks."""

from __future__ import annotations

import itertools
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace

import numpy as np

import vouch
from benchmarks.faults.live import PROMPTS, STEPS, orders, system
from benchmarks.field_faults import Up
from benchmarks.idle import IdleChannels
from benchmarks.load import ConstantLoad, Sample, saturated_s
from benchmarks.report import Figure, Report
from services import limits
from services.processes import marked
from vouch.client import Client
from vouch.client.endpoint import find

LOAD = 5.0
"""Times what the system can answer."""
FILLING_S = 5.0
"""Until queues are full: what is answered before is not counted."""
BEST_OF = 200
"""Requests in which the best goodput is measured."""
SLOW_READERS, SLOW_IMAGES = 16, 64
SPARE_CHANNELS = 64
"""Connections that the idle ones leave to others."""
DISTURBED = 1.5
"""A call that takes so many times as long as on a calm system is not back to normal."""
LONGEST_RETURN_S = 60.0


@dataclass(frozen=True)
class Overloaded:
    """What became of the calls that ended in a window of seconds of time.monotonic()."""

    answered: int
    refused: int  # RESOURCE_EXHAUSTED
    hinted: int  # of those, with the seconds after which to try again
    failed: int  # in any other way
    seconds: float

    def goodput_of_best(self, best_s: float) -> float:
        """Answers a second over the best there can be; best_s: seconds for each answer then."""
        return self.answered / self.seconds * best_s


def overloaded(samples: Sequence[Sample], began: float, ended: float) -> Overloaded:
    """Count the calls that ended between `began` and `ended`."""
    there = [one for one in samples if began < one.ended <= ended]
    refusals = [one for one in there if one.error.startswith("Exhausted:")]
    return Overloaded(
        answered=sum(not one.error for one in there),
        refused=len(refusals),
        hinted=sum(one.retry_after_s is not None for one in refusals),
        failed=sum(bool(one.error) for one in there) - len(refusals),
        seconds=ended - began,
    )


def measure(report: Report, seconds: float, idle: int) -> None:
    """`overload_goodput_of_best` and what belongs to it, then slow readers and idle channels."""
    with system() as up:
        best_s, calm_s = _best_s(up), _latency_s(up)
        _five_times(report, up, seconds, best_s, calm_s)
        _slow_readers(report, up)
        _idle_channels(report, up, idle)


def _best_s(up: Up) -> float:
    fresh = [replace(one, request_id="") for one in orders("best", BEST_OF)]
    return saturated_s(up.state, fresh, requests=BEST_OF)


# ---- five times the load


def _five_times(report: Report, up: Up, seconds: float, best_s: float, calm_s: float) -> None:
    before_mb = memory_mb(up)
    with ConstantLoad(up.state, orders("more"), every_s=best_s / LOAD, timeout_s=30.0) as load:
        began = time.monotonic()
        time.sleep(seconds)
        ended, after_mb = time.monotonic(), memory_mb(up)
        load.end()
        back_s = _back_to_normal_s(up, calm_s)
    seen = overloaded(load.samples, began + FILLING_S, ended)
    print(_errors(load.samples))
    unit = f"for {seconds:.0f} s at {LOAD:g} times the load"
    best = seen.goodput_of_best(best_s)
    report.add("overload_goodput_of_best", Figure(best, unit=unit, must=">= 0.9", aim=">= 0.97"))
    unhinted = seen.refused - seen.hinted
    unit = f"of {seen.refused} calls refused with RESOURCE_EXHAUSTED"
    report.add("overload_refused_without_hint", Figure(unhinted, unit=unit, must="<= 0"))
    unit = f"calls that failed in another way, beside {seen.answered} answered"
    report.add("overload_other_failures", Figure(seen.failed, unit=unit, must="<= 0"))
    report.add("overload_memory_of_calm", Figure(after_mb / before_mb, unit="ratio of resident memory"))
    report.add("overload_back_to_normal_s", Figure(back_s, unit="s after the load ended", must="<= 5"))


def _errors(samples: Sequence[Sample]) -> str:
    names = Counter(one.error.split(":")[0] or "answered" for one in samples)
    return f"{dict(names)} of {len(samples)} calls"


def _back_to_normal_s(up: Up, calm_s: float) -> float:
    """Seconds until the first of three calls in a row that take about as long as before."""
    with vouch.connect(state=up.state, role="client") as client:
        began = time.monotonic()
        return first_of_three(_timed(client, began), DISTURBED * calm_s)


def _timed(client: Client, began: float) -> Iterator[tuple[float, float]]:
    for seed in itertools.count():
        yield time.monotonic() - began, call_s(client, seed)


def first_of_three(calls: Iterator[tuple[float, float]], limit_s: float) -> float:
    """calls: when each was made, and its seconds. When the first of three in a row within the limit was made;
    `LONGEST_RETURN_S` where none came until then."""
    good: list[float] = []
    for since, seconds in calls:
        if since > LONGEST_RETURN_S:
            break
        good = [*good, since] if seconds <= limit_s else []
        if len(good) == 3:
            return good[0]
    return LONGEST_RETURN_S


# ---- those that hold a connection and take nothing


def _slow_readers(report: Report, up: Up) -> None:
    """Streams of which one message is read, while others ask; they are compared with the same load before."""
    before_mb, best_s = memory_mb(up), _best_s(up)
    with _unread_streams(up) as reading:
        pace_s, after_mb = _best_s(up), memory_mb(up)
    unit = f"of the goodput without {reading} streams of {SLOW_IMAGES} images that nobody reads"
    report.add("slow_readers_goodput_of_best", Figure(best_s / pace_s, unit=unit, must=">= 0.9"))
    each = (after_mb - before_mb) / reading
    report.add("slow_readers_memory_mb", Figure(each, unit="MB of resident memory for each"))


@contextmanager
def _unread_streams(up: Up) -> Iterator[int]:
    """All their images have been drawn when the block begins: they lie where the reader left them."""
    with ExitStack() as stack:
        clients = [
            stack.enter_context(vouch.connect(state=up.state, role="client")) for _ in range(SLOW_READERS)
        ]
        streams = [
            client.stream_images(
                PROMPTS[0], count=SLOW_IMAGES, steps=1, seed=number * SLOW_IMAGES, score=False
            )
            for number, client in enumerate(clients)
        ]
        for stream in streams:
            next(iter(stream))
        _until_calm(clients[0])
        yield len(streams)


def _until_calm(client: Client, patience_s: float = 120.0) -> None:
    """Wait until no image of others is under way."""
    deadline, last = time.monotonic() + patience_s, float("inf")
    while time.monotonic() < deadline:
        seconds = call_s(client, seed=0)
        if seconds < DISTURBED * last and last < DISTURBED * seconds:
            return
        last = seconds


def _idle_channels(report: Report, up: Up, wanted: int) -> None:
    """Connections without a request: how many are held, what each costs, and what others notice."""
    most = limits.connections(limits.open_files()) - SPARE_CHANNELS
    port = int(find(state=up.state, role="client").address.rpartition(":")[2])
    calm_s, before_mb = _latency_s(up), memory_mb(up)
    with IdleChannels(port, min(wanted, most)) as idle:
        busy_s, after_mb = _latency_s(up), memory_mb(up)
    allowed = f"of {wanted} asked; {limits.open_files()} open files allow {most}"
    report.add("idle_channels", Figure(idle.answered, unit=allowed, must=f">= {min(wanted, most)}"))
    each = (after_mb - before_mb) * 1000 / max(1, idle.answered)
    report.add("idle_channel_kb", Figure(each, unit="kB of resident memory for each"))
    report.add("idle_latency_of_calm", Figure(busy_s / calm_s, unit="ratio of medians of single calls"))


def _latency_s(up: Up, calls: int = 8) -> float:
    """The median of single calls."""
    with vouch.connect(state=up.state, role="client") as client:
        return float(np.median([call_s(client, seed) for seed in range(calls)]))


def call_s(client: Client, seed: int) -> float:
    began = time.monotonic()
    client.generate_images(PROMPTS[0], seed=seed, steps=STEPS, score=False)
    return time.monotonic() - began


def memory_mb(up: Up) -> float:
    return sum(one.memory_info().rss for one in marked(up.mark)) / 1e6
