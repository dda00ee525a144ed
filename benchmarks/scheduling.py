"""The gain of fair step scheduling: the engine's scheduler on seeded arrivals, in simulated time.

    python -m benchmarks.scheduling [--json FILE] [--kernels benchmarks/reports/kernels.json]

Every step takes as long as `benchmarks.kernels` measured for its rows. Only the order differs between schedulers, and
no other process interferes: the difference from the live system (`benchmarks.serving`) is the system's overhead.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.report import Figure, Report, arguments, screen
from benchmarks.serving.trace import Mix, poisson
from services.generation.scheduler import StepScheduler
from services.generation.slots import Slot, Ticket
from vouch.settings import GenerationSettings
from vouch.types.generation import GenerationRequest

KERNELS = Path("benchmarks/reports/kernels.json")
PIXELS_S = 0.012  # of one image: decoding and PNG, on the step's cores
IN_TIME = 3  # times its alone-time, as in `benchmarks.serving`
SEEDS, SECONDS = (1, 2, 3, 4, 5), 300.0
LOADS = (0.6, 0.9)  # of what the bare eager network does
MOST_ROWS = 2 * GenerationSettings().max_batch  # every image of a step guided
MANY = 288  # queued images of the timed scheduler
console = screen()


@dataclass(eq=False)
class SimulatedJob:
    """A request on its way through the simulated engine."""

    arrives: float
    alone: float
    ticket: Ticket
    left: int
    ends: float = field(default=0.0)

    @property
    def images(self) -> int:
        return len(self.ticket.request.seeds)

    @property
    def took(self) -> float:
        return self.ends - self.arrives


class SideBySide:
    """First come, first served, and every image with a slot takes every step: what most engines do."""

    def __init__(self, slots: int, step_rows: int) -> None:
        del step_rows
        self._slots, self._images = slots, list[Slot]()

    def __len__(self) -> int:
        return len(self._images)

    def add(self, ticket: Ticket, now: float, steps: int) -> None:
        del steps
        self._images += [Slot(ticket, index, now) for index in range(len(ticket.request.seeds))]

    def next_batch(self) -> list[Slot]:
        return self._images[: self._slots]

    def advance(self, rows: int) -> None:
        del rows

    def remove_done(self) -> list[Slot]:
        done = [slot for slot in self._images if slot.done]
        self._images = [slot for slot in self._images if not slot.done]
        return done


class FirstCome(SideBySide):
    """First come, first served, in steps of as many rows as the engine's."""

    def __init__(self, slots: int, step_rows: int) -> None:
        super().__init__(slots, step_rows)
        self._rows = step_rows

    def next_batch(self) -> list[Slot]:
        batch, room = list[Slot](), self._rows
        for slot in self._sorted():
            if batch and (slot.rows > room or len(batch) == self._slots):
                break
            batch.append(slot)
            room -= slot.rows
        return batch

    def _sorted(self) -> Sequence[Slot]:
        return self._images


class ShortestLeft(FirstCome):
    """Shortest remaining processing time first. It has no fairness: long requests may starve."""

    def _sorted(self) -> Sequence[Slot]:
        left: dict[Ticket, int] = {}
        for slot in self._images:
            left[slot.ticket] = left.get(slot.ticket, 0) + slot.rows_left
        return sorted(self._images, key=lambda slot: (left[slot.ticket], slot.since, -slot.step))


SCHEDULERS: Mapping[str, Callable[[int, int], Any]] = {
    "fair": StepScheduler,
    "side_by_side": SideBySide,
    "first_come": FirstCome,
    "shortest_left": ShortestLeft,
}


def step_seconds(kernels: Path, kind: str) -> np.ndarray:
    """Seconds of a step by its rows, up to `MOST_ROWS`. kind: "eager" or "compiled". Beyond the most rows that were
    measured a row costs what it costs there."""
    figures = json.loads(kernels.read_text("utf-8"))["figures"]
    known = {
        int(name.removeprefix(f"{kind}_")): figure["value"] / 1000
        for name, figure in figures.items()
        if name.startswith(f"{kind}_") and name.removeprefix(f"{kind}_").isdigit()
    }
    most = max(known)
    known |= {0: 0.0, MOST_ROWS: known[most] * MOST_ROWS / most}
    rows = sorted(known)
    return np.interp(np.arange(MOST_ROWS + 1), rows, [known[row] for row in rows])


def jobs(load: float, seed: int, alone: np.ndarray) -> list[SimulatedJob]:
    """Requests as `benchmarks.serving` sends them, each client its own. alone: seconds of an eager step by rows."""
    mix, limit = Mix(("",)), max(rows / seconds for rows, seconds in enumerate(alone) if rows)
    found = []
    arrivals = poisson(mix, per_s=load * limit / mix.mean_image_steps, seconds=SECONDS, seed=seed)
    for number, arrival in enumerate(arrivals):
        ask = arrival.ask
        ticket = ticket_of(ask.count, ask.steps, ask.guidance, str(number))
        by_itself = ask.steps * alone[ask.image_steps // ask.steps] + ask.count * PIXELS_S
        found.append(SimulatedJob(arrival.at_s, by_itself, ticket, ask.count))
    return found


def run(scheduler: Any, coming: Sequence[SimulatedJob], seconds: np.ndarray) -> None:
    """Until every job has ended."""
    now, place, steps = 0.0, 0, 0
    by_ticket = {job.ticket: job for job in coming}
    while place < len(coming) or len(scheduler):
        now = now if len(scheduler) else max(now, coming[place].arrives)
        while place < len(coming) and coming[place].arrives <= now:
            scheduler.add(coming[place].ticket, coming[place].arrives, steps)
            place += 1
        batch = scheduler.next_batch()
        rows = sum(slot.rows for slot in batch)
        for slot in batch:
            slot.step += 1
        steps += 1
        done = scheduler.remove_done()
        scheduler.advance(rows)
        now += seconds[rows] + PIXELS_S * len(done)
        for slot in done:
            job = by_ticket[slot.ticket]
            job.left -= 1
            job.ends = job.ends if job.left else now


def measured(kernels: Path) -> Report:
    report = Report("scheduling")
    for kind in ("compiled", "eager"):
        for load in LOADS:
            for name in SCHEDULERS:
                p95_s, images_per_s = score(name, load, kernels, kind)
                report.add(f"p95_{name}_{kind}_{round(100 * load)}", Figure(p95_s, "s"))
                report.add(f"goodput_{name}_{kind}_{round(100 * load)}", Figure(images_per_s, "images/s"))
    report.add("order_ms", Figure(order_ms(), "ms"))
    return report


def score(name: str, load: float, kernels: Path, kind: str) -> tuple[float, float]:
    """The 95th percentile of latency, in seconds, and images in time per second."""
    settings, alone, seconds = (
        GenerationSettings(),
        step_seconds(kernels, "eager"),
        step_seconds(kernels, kind),
    )
    took, in_time = list[float](), 0
    for seed in SEEDS:
        coming = jobs(load, seed, alone)
        run(SCHEDULERS[name](settings.max_batch, settings.step_rows), coming, seconds)
        took += [job.took for job in coming]
        in_time += sum(job.images for job in coming if job.took <= IN_TIME * job.alone)
    return float(np.percentile(took, 95)), in_time / len(SEEDS) / SECONDS


def order_ms() -> float:
    """Milliseconds that the order of one step costs when very many images wait, four for each of many clients."""
    settings = GenerationSettings()
    scheduler = StepScheduler(settings.max_batch, settings.step_rows)
    for number in range(MANY // 4):
        scheduler.add(ticket_of(4, 50, 3.0, str(number)), float(number), 0)
    times = []
    for _ in range(50):
        began = time.perf_counter()
        scheduler.advance(sum(slot.rows for slot in scheduler.next_batch()))
        times.append(time.perf_counter() - began)
    return 1000 * float(np.median(times))


def ticket_of(count: int, steps: int, guidance: float, client: str) -> Ticket:
    """A request without a model: the scheduler reads only its numbers."""
    request = GenerationRequest(
        prompt="", seeds=tuple(range(count)), steps=steps, guidance=guidance, client=client
    )
    return Ticket(Any, request, lambda event: None)  # type: ignore[arg-type]


def main() -> None:
    parser = arguments("benchmarks.scheduling", "The gain of fair step scheduling, in simulated time.")
    parser.add_argument("--kernels", type=Path, default=KERNELS, help="report of benchmarks.kernels")
    given = parser.parse_args()
    measured(given.kernels).finish(given.json, console=console)


if __name__ == "__main__":
    main()
