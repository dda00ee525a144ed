"""A replica of the engine in computed time: how long requests take under a load, from how long its steps take."""

from __future__ import annotations

import bisect
import json
import math
import random
from collections import deque
from dataclasses import dataclass
from pathlib import Path

import numpy as np

MOST_BUSY = 0.85
"""Of a replica's time: above it a small burst, or the loss of one replica of seven, makes a queue that only grows."""


@dataclass(frozen=True)
class ServiceTimes:
    """What was measured of one replica.

    step_s: seconds of a denoising step by its rows, ascending; between two a step is interpolated, beyond the last a
    row costs what it costs there. image_s: seconds to decode and encode one image. max_batch: slots. step_rows: rows at
    which a step is not made larger (`GenerationSettings.step_rows`).
    """

    step_s: tuple[tuple[int, float], ...]
    image_s: float
    max_batch: int = 32
    step_rows: int = 16

    def step(self, rows: int) -> float:
        """Seconds of a step with so many rows."""
        most, seconds = self.step_s[-1]
        if rows >= most:
            return seconds * rows / most
        known = [count for count, _ in self.step_s]
        above = bisect.bisect_left(known, rows)
        if known[above] == rows or above == 0:
            return self.step_s[above][1]
        (low, low_s), (high, high_s) = self.step_s[above - 1], self.step_s[above]
        return low_s + (high_s - low_s) * (rows - low) / (high - low)

    def images_per_s(self, load: OfferedLoad) -> float:
        """The most that a replica draws when its steps are always full."""
        rows = self.step_rows
        return 1.0 / (load.steps * load.rows * self.step(rows) / rows + self.image_s)


@dataclass(frozen=True)
class OfferedLoad:
    """Requests that arrive at random (Poisson), all replicas together."""

    images_per_s: float
    images: int = 1  # of a request
    steps: int = 20
    rows: int = 2  # of an image in a step: 2 with guidance

    @property
    def requests_per_s(self) -> float:
        return self.images_per_s / self.images


@dataclass(frozen=True)
class Latency:
    """Seconds of requests from arrival to the last image, and the share of time in which a replica computes."""

    mean_s: float
    p50_s: float
    p95_s: float
    busy: float


def calibration_of(kernels: Path, kind: str = "compiled", image_s: float = 0.012) -> ServiceTimes:
    """From a report of `benchmarks.kernels`. kind: "eager" or "compiled". Raises ValueError without such figures."""
    figures = json.loads(kernels.read_text("utf-8"))["figures"]
    names = {name: name.removeprefix(f"{kind}_") for name in figures if name.startswith(f"{kind}_")}
    steps = sorted(
        (int(rows), figures[name]["value"] / 1000) for name, rows in names.items() if rows.isdigit()
    )
    if not steps:
        raise ValueError(
            f"{kernels} has no figures {kind}_<rows>: run python -m benchmarks.kernels --json {kernels}"
        )
    return ServiceTimes(tuple(steps), image_s)


class _Replica:
    """First come, first served, in steps of at most `step_rows` rows or half of those queued, as the engine's are."""

    def __init__(self, calibration: ServiceTimes, load: OfferedLoad) -> None:
        self._calibration, self._load = calibration, load
        self.waiting: deque[list[int]] = deque()  # [request, steps left] of each image, in order of arrival
        self.free_at = 0.0
        self.busy_s = 0.0

    def step(self, now: float) -> list[int]:
        """One step from `now` on; the requests of the images that it ends."""
        free_rows = max(self._calibration.step_rows, len(self.waiting) * self._load.rows // 2)
        room = max(1, min(self._calibration.max_batch, free_rows // self._load.rows))
        taken = [self.waiting[place] for place in range(min(room, len(self.waiting)))]
        for image in taken:
            image[1] -= 1
        ended = [image[0] for image in taken if image[1] == 0]
        self.waiting = deque(image for image in self.waiting if image[1])
        spent = self._calibration.step(len(taken) * self._load.rows) + self._calibration.image_s * len(ended)
        self.free_at = now + spent
        self.busy_s += spent
        return ended


def simulate(
    calibration: ServiceTimes, load: OfferedLoad, replicas: int, seconds: float = 600.0, seed: int = 0
) -> Latency:
    """Arrivals for so long; requests go to the replica with the fewest images. Those of the first tenth warm it up."""
    rng = random.Random(seed)
    pool = [_Replica(calibration, load) for _ in range(replicas)]
    arrived: list[float] = []
    left: list[int] = []
    ended: dict[int, float] = {}
    next_arrival = rng.expovariate(load.requests_per_s)
    while True:
        busy = [replica for replica in pool if replica.waiting]
        now = min((replica.free_at for replica in busy), default=float("inf"))
        if next_arrival <= min(now, seconds):
            replica = min(pool, key=lambda one: len(one.waiting))
            if not replica.waiting:
                replica.free_at = max(replica.free_at, next_arrival)
            replica.waiting.extend([len(arrived), load.steps] for _ in range(load.images))
            arrived.append(next_arrival)
            left.append(load.images)
            next_arrival += rng.expovariate(load.requests_per_s)
            continue
        if not busy:
            break
        replica = min(busy, key=lambda one: one.free_at)
        for request in replica.step(now):
            left[request] -= 1
            if left[request] == 0:
                ended[request] = replica.free_at
    took = [ended[number] - arrived[number] for number in ended if arrived[number] > seconds / 10]
    span = max(seconds, max(ended.values(), default=seconds))
    p50_s, p95_s = np.quantile(took, (0.5, 0.95))
    busy = sum(one.busy_s for one in pool) / span / replicas
    return Latency(float(np.mean(took)), float(p50_s), float(p95_s), busy)


def replicas_for(
    calibration: ServiceTimes, load: OfferedLoad, p95_s: float, most: int = 10_000
) -> tuple[int, Latency]:
    """The fewest replicas whose p95 keeps to the goal and of whose time at most `MOST_BUSY` is taken, and what they do.

    Raises ValueError where not even an idle replica is that fast, or more than `most` were needed.
    """
    alone = (
        load.steps * calibration.step(min(load.images * load.rows, calibration.step_rows))
        + calibration.image_s
    )
    if alone > p95_s:
        raise ValueError(
            f"One request takes {alone:.2f} s on an idle replica, so no number of replicas gives {p95_s:g} s. "
            "Take fewer steps, a faster machine, or another goal."
        )
    low = max(1, math.ceil(load.images_per_s / calibration.images_per_s(load) / MOST_BUSY))
    high = low
    while (latency := simulate(calibration, load, high, _span(load))).p95_s > p95_s:
        low, high = high + 1, high + max(1, high // 4)
        if high > most:
            raise ValueError(f"More than {most} replicas would be needed.")
    while low < high:
        middle = (low + high) // 2
        tried = simulate(calibration, load, middle, _span(load))
        if tried.p95_s <= p95_s:
            high, latency = middle, tried
        else:
            low = middle + 1
    return high, latency


def _span(load: OfferedLoad) -> float:
    """Seconds with about 3,000 requests: enough for a p95."""
    return max(30.0, 3000 / load.requests_per_s)
