"""The engine's observer: the interface to metrics."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager


class Observer:
    """Called by the engine's threads; this one ignores every event. Times are in seconds."""

    def admitted(self, waited_s: float, steps: int | None) -> None:
        """An image takes its first step. steps: those begun since it arrived; None: its slot was not free."""

    def stepped(self, images: int, rows: int) -> None:
        """A batch of so many images took one step, with so many evaluations of the network."""

    def staged(self, stage: str, seconds: float) -> None:
        """Time of one "begin" (noise and prompts), "denoise" (a step) or "decode" (latents to files)."""

    def evicted(self, reason: str) -> None:
        """A slot was removed before its image was done."""

    @contextmanager
    def stage(self, name: str) -> Iterator[None]:
        """Time the block."""
        started = time.perf_counter()
        try:
            yield
        finally:
            self.staged(name, time.perf_counter() - started)
