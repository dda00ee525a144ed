"""Small real objects for the seams that we own."""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import fields
from typing import Any

import numpy as np
import torch

from vouch.errors import Cancelled
from vouch.models.sampling import Trajectory
from vouch.types.guidance import PLAIN, GuidanceOptions

OnStep = Callable[[int, int], bool]


def path(steps: int, **weights: Any) -> Trajectory:
    """A way of so many steps in which what the network says is the clean image, but for these weights; others are 0."""
    columns = {"input": 1, "clean_of_out": 1, **weights}
    names = (column.name for column in fields(Trajectory) if column.name not in ("timestep", "start"))
    return Trajectory(
        timestep=np.arange(steps, 0, -1, dtype=np.float32),
        start=1.0,
        **{name: np.full(steps, columns.get(name, 0), np.float32) for name in names},
    )


class FakeGenerator:
    """Paints each image whole, in one flat colour derived from its seed; `steps` calls of `on_step`, no weights.

    `gate`, when given, is waited on before every step, so that a test decides when work goes on.
    """

    stepwise = False

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
        self,
        prompts: list[str],
        seeds: list[int],
        steps: int,
        guidance: float,
        on_step: OnStep | None = None,
        options: GuidanceOptions = PLAIN,
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


class FakeStepper(FakeGenerator):
    """The same image, step by step: latents [1, 1, 1, 1] that hold the seed from beginning to end.

    `batches` lists the seeds of every step. `broken_prompt` makes a step raise, the prompt "nan" spoils its latents.
    """

    stepwise = True
    base: FakeStepper | None = None
    guide: FakeStepper | None = None

    def trajectory(self, steps: int, sampler: str = "", eta: float = 0.0) -> Trajectory:
        return path(steps, clean_of_x=1, x0_weight=1)

    def encode(self, prompt: str) -> torch.Tensor:
        marks = {self.broken_prompt: 1.0, "nan": 2.0}
        return torch.full((1, 1, 1), marks.get(prompt, 0.0) if prompt else 0.0)

    def noise(self, generator: torch.Generator) -> torch.Tensor:
        return torch.full((1, 1, 1, 1), float(generator.initial_seed()))

    def predict(self, x: torch.Tensor, timesteps: torch.Tensor, prompts: torch.Tensor) -> torch.Tensor:
        self.batches.append([int(value) for value in x.nan_to_num().flatten().tolist()])
        self.began.set()
        if self.gate is not None:
            self.gate.acquire(timeout=30)
        if (prompts == 1.0).any():
            raise RuntimeError("a shape that does not fit")
        self.steps_done += 1
        return torch.where(prompts.reshape(-1, 1, 1, 1) == 2.0, torch.nan, 0.0)

    def decode(self, x: torch.Tensor) -> np.ndarray:
        return np.stack([self.paint(int(value)) for value in x.flatten().tolist()])


class FakeClock:
    """A clock that moves only by hand. Seconds."""

    def __init__(self, now_s: float = 0.0) -> None:
        self.now_s = now_s

    def __call__(self) -> float:
        return self.now_s

    def advance(self, seconds: float) -> None:
        self.now_s += seconds
