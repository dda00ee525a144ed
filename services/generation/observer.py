"""What the engine tells of itself."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager


class Observer:
    """Told by the engine's threads what they do; this one does not listen. Seconds."""

    def admitted(self, waited_s: float, steps: int | None) -> None:
        """An image takes its first step. steps: those that began since it came; None: it had to wait for its turn."""

    def stepped(self, images: int, rows: int) -> None:
        """A batch of so many images took one step, with so many evaluations of the network."""

    def staged(self, stage: str, seconds: float) -> None:
        """Time on "begin" (noise and prompts), "denoise" (a step) or "decode" (latents to files)."""

    def evicted(self, reason: str) -> None:
        """A slot was let go before its image was done."""

    @contextmanager
    def stage(self, name: str) -> Iterator[None]:
        """Time the block."""
        started = time.perf_counter()
        try:
            yield
        finally:
            self.staged(name, time.perf_counter() - started)
