"""The engine's figures on /metrics."""

from __future__ import annotations

from services import metrics
from services.generation.observer import Observer


class MetricsObserver(Observer):
    """Counts the engine's events in Prometheus metrics."""

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
