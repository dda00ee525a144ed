"""Small real objects for the seams that we own."""

from __future__ import annotations

import threading
from collections.abc import Callable

import numpy as np

from vouch.errors import Cancelled

OnStep = Callable[[int, int], bool]


class FakeGenerator:
    """Paints each image in one flat colour derived from its seed; `steps` calls of `on_step`, no weights.

    `gate`, when given, is waited on before every step, so that a test decides when work goes on.
    """

    height = width = 8
    default_steps = 4
    default_guidance = 2.0
    sampler = "fake"

    def __init__(self, *, gate: threading.Semaphore | None = None, broken_prompt: str = "") -> None:
        self.gate = gate
        self.broken_prompt = broken_prompt
        self.batches: list[list[int]] = []
        self.steps_done = 0
        self.began = threading.Event()

    def generate(
        self, prompts: list[str], seeds: list[int], steps: int, guidance: float, on_step: OnStep | None = None
    ) -> np.ndarray:
        self.batches.append(list(seeds))
        self.began.set()
        for step in range(1, steps + 1):
            if self.gate is not None:
                self.gate.acquire(timeout=30)
            if self.broken_prompt in prompts:
                raise RuntimeError("nan in the latents")
            self.steps_done += 1
            if on_step is not None and not on_step(step, steps):
                raise Cancelled("nobody waits for these images")
        return np.stack([self.paint(seed) for seed in seeds])

    def paint(self, seed: int) -> np.ndarray:
        """The image of a seed: uint8 [8, 8, 3]."""
        return np.full((self.height, self.width, 3), seed % 251, dtype=np.uint8)


class FakeClock:
    """A clock that moves only by hand. Seconds."""

    def __init__(self, now_s: float = 0.0) -> None:
        self.now_s = now_s

    def __call__(self) -> float:
        return self.now_s

    def advance(self, seconds: float) -> None:
        self.now_s += seconds
