"""The engine with the starter model under loads, against what the model of it predicts.

Calibrations and loads alternate, so that a machine that others use too changes little between the two. The model gets
the arrivals of the run: few requests fit into a run, and chance alone would set two draws of them apart.
"""

from __future__ import annotations

import queue
import random
import statistics
import threading
import time
from dataclasses import dataclass

from benchmarks.capacity.model import OfferedLoad, ServiceTimes, simulate
from benchmarks.machine import cores
from benchmarks.report import Figure, Report, median_figure
from services.generation.engine import Engine
from services.generation.slots import Failed
from services.starter import STARTER
from vouch.formats import images
from vouch.models.pipelines import Generator, load_generator
from vouch.types.generation import GenerationRequest

ROUNDS = 5
SHARES = (0.3, 0.5, 0.7)  # of a full replica's images per second; calibration sees single steps alone
SECONDS = 8.0
ROWS = (2, 8, 16)
STEPS = 10
MAX_BATCH, STEP_ROWS = 32, 16


@dataclass(frozen=True)
class MeasuredCapacity:
    """Seconds of the requests of one run."""

    p50_s: float
    p95_s: float


def validate(report: Report) -> None:
    """Adds the error of the predicted median and p95 of each load: |predicted / measured - 1|, median of the rounds."""
    generator = load_generator(STARTER / "generator")
    errors: dict[float, list[float]] = {share: [] for share in SHARES}
    p95_errors: dict[float, list[float]] = {share: [] for share in SHARES}
    after = calibrate(generator)
    for number in range(ROUNDS):
        for share in SHARES:
            before = after
            load = OfferedLoad(share * before.images_per_s(OfferedLoad(1.0, steps=STEPS)), steps=STEPS)
            measured = run(generator, load, seed=number)
            after = calibrate(generator)
            predicted = simulate(_mean(before, after), load, replicas=1, seconds=SECONDS, seed=number)
            errors[share].append(abs(predicted.p50_s / measured.p50_s - 1))
            p95_errors[share].append(abs(predicted.p95_s / measured.p95_s - 1))
            print(
                f"{share:.0%}: {predicted.p50_s:.2f} s predicted, {measured.p50_s:.2f} s measured", flush=True
            )
    for share in SHARES:
        name = f"capacity_model_error_at_{share:.0%}".replace("%", "_percent")
        report.add(name, median_figure(errors[share], "ratio of p50", must="<= 0.15", aim="<= 0.08"))
        report.add(f"{name}_p95", median_figure(p95_errors[share], "ratio of p95"))
    worst = max(statistics.median(found) for found in errors.values())
    report.add("capacity_model_error", Figure(worst, "worst of three loads", must="<= 0.15", aim="<= 0.08"))


def calibrate(generator: Generator) -> ServiceTimes:
    """Seconds of a step by its rows, and of an image's pixels, each the median of a few."""
    steps = []
    for rows in ROWS:
        one = statistics.median(_batch_s(generator, rows // 2, 1) for _ in range(3))
        more = statistics.median(_batch_s(generator, rows // 2, STEPS) for _ in range(3))
        steps.append((rows, (more - one) / (STEPS - 1)))
    single = statistics.median(_batch_s(generator, 1, STEPS) for _ in range(3))
    return ServiceTimes(tuple(steps), max(0.0, single - STEPS * steps[0][1]), MAX_BATCH, STEP_ROWS)


def _mean(one: ServiceTimes, other: ServiceTimes) -> ServiceTimes:
    pairs = zip(one.step_s, other.step_s, strict=True)
    steps = tuple((rows, (first + second) / 2) for (rows, first), (_, second) in pairs)
    return ServiceTimes(steps, (one.image_s + other.image_s) / 2, MAX_BATCH, STEP_ROWS)


def run(generator: Generator, load: OfferedLoad, seed: int) -> MeasuredCapacity:
    """Requests at the moments that `simulate` draws for this seed; how long each took after a tenth of `SECONDS`."""
    rng, engine, took = random.Random(seed), _engine(), list[float]()
    pending: list[threading.Event] = []
    try:
        began = time.monotonic()
        moment = rng.expovariate(load.requests_per_s)
        while moment < SECONDS:
            threading.Event().wait(max(0.0, began + moment - time.monotonic()))
            counted = took if moment > SECONDS / 10 else []
            pending.append(_ask(engine, generator, load, counted, began + moment))
            moment += rng.expovariate(load.requests_per_s)
        for done in pending:
            assert done.wait(120), "a request did not end"
    finally:
        engine.stop()
    return MeasuredCapacity(statistics.median(took), statistics.quantiles(took, n=20)[-1])


def _ask(
    engine: Engine, generator: Generator, load: OfferedLoad, took: list[float], arrived: float
) -> threading.Event:
    done = threading.Event()

    def deliver(event: object) -> None:
        assert not isinstance(event, Failed)
        took.append(time.monotonic() - arrived)
        done.set()

    engine.submit(generator, _request((7,), load.steps), deliver)
    return done


def _batch_s(generator: Generator, count: int, steps: int) -> float:
    """Seconds of `count` images together, of so many steps."""
    engine, ended = _engine(), queue.SimpleQueue[object]()
    began = time.monotonic()
    engine.submit(generator, _request(tuple(range(count)), steps), ended.put)
    for _ in range(count):
        assert not isinstance(ended.get(timeout=120), Failed)
    spent = time.monotonic() - began
    engine.stop()
    return spent


def _request(seeds: tuple[int, ...], steps: int) -> GenerationRequest:
    return GenerationRequest(prompt="neutrophil", seeds=seeds, steps=steps, guidance=2.0)


def _engine() -> Engine:
    encode = lambda image: images.encode_png(image)  # noqa: E731 - as the generation deployment does
    return Engine(max_batch=MAX_BATCH, step_rows=STEP_ROWS, threads=cores(), encode=encode, background=False)
