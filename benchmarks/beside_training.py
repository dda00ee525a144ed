"""What serving loses while a training job runs on the same machine."""

from __future__ import annotations

import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import grpc
import numpy as np
from grpc_health.v1 import health_pb2, health_pb2_grpc

from benchmarks.load import ConstantLoad, Order, Sample
from benchmarks.system import BenchmarkSystem
from training.evaluation.intervals import bootstrap_ratio
from vouch.client import Client
from vouch.storage.state import StateFolder

CHUNKS = 10  # parts of a window that the interval resamples as wholes
UTILISATION = 0.25  # of what the engine can do alone: a service that people use, not one at its limit
HEALTH_EVERY_S = 1.0
HEALTH_DEADLINE_S = 5.0


@dataclass(frozen=True)
class Found:
    """Latencies of both halves in seconds, in the order of the requests' ends."""

    idle: Sequence[float]
    training: Sequence[float]
    requests: int
    failed: int
    checks: int
    unhealthy: int

    @property
    def idle_s(self) -> float:
        return _p95(np.asarray(self.idle))

    @property
    def training_s(self) -> float:
        return _p95(np.asarray(self.training))

    @property
    def ratio(self) -> float:
        return self.training_s / self.idle_s

    def interval(self) -> tuple[float, float]:
        return bootstrap_ratio(np.array_split(self.training, CHUNKS), np.array_split(self.idle, CHUNKS), _p95)


def p95_beside_training(system: BenchmarkSystem, *, steps: int, window_s: float, warm_up_s: float) -> Found:
    """Raises RuntimeError when the training job does not begin, or ends before its half is measured."""
    with system.client() as client, tempfile.TemporaryDirectory(prefix="vouch-train-") as folder:
        prompts = client.describe_generator().example_prompts
        orders = [Order(prompt, seed, steps) for seed, prompt in enumerate(prompts)]
        data = _training_set(client, Path(folder))
        with (
            HealthChecks(system.state) as health,
            ConstantLoad(system.state, orders, every_s=alone_s(client, orders[0]) / UTILISATION) as load,
        ):
            idle = _wait(window_s)
            with _training_job(client, data) as goes_on:
                _wait(warm_up_s)
                busy = _wait(window_s)
                if not goes_on():
                    raise RuntimeError("the training job ended before serving beside it was measured")
    calm, loaded = _seconds(load.samples, idle), _seconds(load.samples, busy)
    failed = sum(bool(sample.error) for sample in load.samples)
    return Found(calm, loaded, len(load.samples), failed, health.asked, health.failed)


def alone_s(client: Client, order: Order) -> float:
    """Median seconds of a request that has the system to itself."""
    waits = []
    for _ in range(8):
        began = time.monotonic()
        client.generate_images(order.prompt, count=1, seed=order.seed, steps=order.steps, score=False)
        waits.append(time.monotonic() - began)
    return float(np.median(waits[2:]))


class HealthChecks:
    """Asks grpc.health.v1 once a second from a thread of its own, and counts what is not SERVING in time."""

    def __init__(self, state: Path) -> None:
        self._address = StateFolder(state).read_access().address
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._ask, name="health", daemon=True)
        self.asked = 0
        self.failed = 0

    def __enter__(self) -> HealthChecks:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()

    def _ask(self) -> None:
        with grpc.insecure_channel(self._address) as channel:
            stub = health_pb2_grpc.HealthStub(channel)
            while not self._stop.wait(HEALTH_EVERY_S):
                self.asked += 1
                self.failed += not _serves(stub)


def _serves(stub: health_pb2_grpc.HealthStub) -> bool:
    try:
        reply = stub.Check(health_pb2.HealthCheckRequest(), timeout=HEALTH_DEADLINE_S)
    except grpc.RpcError:
        return False
    return bool(reply.status == health_pb2.HealthCheckResponse.SERVING)


@contextmanager
def _training_job(client: Client, data: Path) -> Iterator[Callable[[], bool]]:
    """A pre-training run that outlasts the block and is cancelled at its end. Yields: does it still run?"""
    run = client.start_training("pretrain", {"data": str(data), "vae_steps": 1_000_000})
    try:
        deadline = time.monotonic() + 300
        while (seen := client.get_run(run.run_id)).step == 0:
            if seen.state not in ("QUEUED", "RUNNING") or time.monotonic() > deadline:
                raise RuntimeError(f"the training job did not begin: {seen.state} {seen.error}")
            time.sleep(0.5)
        yield lambda: client.get_run(run.run_id).state == "RUNNING"
    finally:
        client.cancel_run(run.run_id)


def _training_set(client: Client, folder: Path) -> Path:
    """Images of every label that the generator knows, as a Parquet set."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    labels = client.describe_generator().labels or ("image",)
    rows: dict[str, list[object]] = {"image": [], "label": []}
    for label in labels:
        reply = client.generate_images(label, count=16, seed=1, steps=4, score=False)
        rows["image"] += [image.data for image in reply.images]
        rows["label"] += [label] * len(reply.images)
    path = folder / "images.parquet"
    pq.write_table(pa.table(rows), path)
    return path


def _wait(seconds: float) -> tuple[float, float]:
    began = time.monotonic()
    time.sleep(seconds)
    return began, time.monotonic()


def _seconds(samples: Sequence[Sample], window: tuple[float, float]) -> list[float]:
    """Latencies of the requests that began in the window; a failed one counts with the time it took."""
    begin, end = window
    return [sample.seconds for sample in samples if begin <= sample.began < end]


def _p95(seconds: np.ndarray) -> float:
    return float(np.percentile(seconds, 95))
