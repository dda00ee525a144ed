"""The engine's figures on /metrics."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager

from services import metrics
from services.generation.observer import Observer


class MetricsObserver(Observer):
    """Counts the engine's events in Prometheus metrics."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._decoding = 0

    @contextmanager
    def stage(self, name: str) -> Iterator[None]:
        if name == "denoise":
            before = self._decoding
            with super().stage(name), metrics.STEP_SECONDS.labels(str(bool(before)).lower()).time():
                yield
            return
        self._count(name, 1)
        try:
            with super().stage(name):
                yield
        finally:
            self._count(name, -1)

    def _count(self, stage: str, change: int) -> None:
        if stage == "decode":
            with self._lock:
                self._decoding += change

    def admitted(self, waited_s: float, steps: int | None) -> None:
        metrics.WAIT_SECONDS.observe(waited_s)
        if steps is not None:
            metrics.ADMISSION_STEPS.observe(steps)

    def stepped(self, images: int, rows: int) -> None:
        metrics.STEPS.inc()
        metrics.IMAGE_STEPS.inc(rows)
        metrics.BATCH_IMAGES.observe(images)

    def staged(self, stage: str, seconds: float) -> None:
        metrics.STAGE_SECONDS.labels(stage).observe(seconds)

    def evicted(self, reason: str) -> None:
        metrics.EVICTIONS.labels(reason).inc()
