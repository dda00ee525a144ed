"""Spans of an order in the engine: one for each denoising step of its furthest image, one for the last step and the
decoding that follows, one for each image."""

from __future__ import annotations

import time

from services.generation.slots import Event, Finished, StepProgress
from vouch import tracing


class EngineTrace:
    """Follows the events of one order. Does nothing for an order without a trace."""

    def __init__(self, parent: str, images: int) -> None:
        self._parent, self._images = parent, images
        self._step, self._at = 0, time.perf_counter()
        self._finished = False

    def note(self, event: Event) -> None:
        if not self._parent:
            return
        now = time.perf_counter()
        if isinstance(event, StepProgress) and event.step > self._step:
            tracing.record("engine.step", self._parent, now - self._at, step=event.step, total=event.total)
            self._step, self._at = event.step, now
        elif isinstance(event, Finished):
            if not self._finished:
                tracing.record("engine.finish", self._parent, now - self._at)
            self._finished = True
            tracing.record(
                "engine.image",
                self._parent,
                event.compute_s,
                index=event.index,
                images=self._images,
                waited_s=event.queued_s,
                mean_batch=event.batch,
            )
