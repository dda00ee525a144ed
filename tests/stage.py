"""A stage on which a test lets the engine go one step at a time, and models whose images say how they came to be."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch

from services.generation.engine import Engine
from tests.fakes import path
from vouch.errors import Cancelled
from vouch.models.sampling import Trajectory
from vouch.types.guidance import PLAIN, GuidanceOptions

PATIENCE_S = 20.0
WORDS = {"": 0.0, "neutrophil": 1.0, "monocyte": 2.0, "nan": 3.0, "no pixels": 4.0, "no step": 5.0}
"""Prompts and the number that stands for each; "no words" is not among them and cannot be encoded."""
BAD_PROMPTS = ("no words", "no step", "nan", "no pixels")
SEED, STEPS, SEEN, MARK, WORD, SPOILT = range(6)
"""Channels of the latents."""


@dataclass(frozen=True)
class Call:
    """One step of a batch: whose model, and the seed of every row."""

    mark: int
    seeds: tuple[int, ...]


class Stage:
    """Every step of every model on it waits for the test. `calls` lists them as they begin."""

    def __init__(self) -> None:
        self.calls: list[Call] = []
        self._turn = threading.Condition()
        self._pausing, self._open = False, False

    # ---- the models' side: the engine's thread

    def begin_step(self, mark: int, seeds: tuple[int, ...]) -> None:
        with self._turn:
            self.calls.append(Call(mark, seeds))
            self._pausing = True
            self._turn.notify_all()
            self._turn.wait_for(lambda: self._open or not self._pausing, PATIENCE_S)
            self._pausing = False

    # ---- the test's side

    def rest(self, engine: Engine) -> bool:
        """Wait until the engine pauses before a step, or has nothing to do. Whether it pauses."""
        deadline = time.monotonic() + PATIENCE_S
        with self._turn:
            while not self._pausing:
                if engine.load() == (0, 0):
                    return False
                assert engine.alive, "the engine's thread has died"
                assert time.monotonic() < deadline, f"no step, no rest: {engine.load()}"
                self._turn.wait(0.001)
        return True

    @property
    def over(self) -> list[Call]:
        """The calls but for the one that pauses."""
        with self._turn:
            return self.calls[:-1] if self._pausing else list(self.calls)

    def step(self, engine: Engine, count: int = 1) -> None:
        """Let up to `count` steps happen, one after the other."""
        for _ in range(count):
            if self.rest(engine):
                with self._turn:
                    self._pausing = False
                    self._turn.notify_all()
        self.rest(engine)

    def open(self) -> None:
        """From now on no step waits."""
        with self._turn:
            self._open, self._pausing = True, False
            self._turn.notify_all()


class TracedModel:
    """Six numbers are its latents, and its picture is their bytes: see `story`.

    Its sampler uses all there is to mix up: noise (at every other step), the x0 of the step before, and guidance.
    """

    stepwise = True

    def __init__(self, stage: Stage, mark: int) -> None:
        self.stage, self.mark = stage, mark

    def trajectory(self, steps: int, sampler: str = "", eta: float = 0.0) -> Trajectory:
        every_other = np.arange(steps) % 2 == 0
        return path(steps, x_weight=1, x0_weight=1, before_weight=1, noise_weight=every_other)

    def encode(self, prompt: str) -> torch.Tensor:
        return torch.full((1, 1, 1), WORDS[prompt])

    def noise(self, generator: torch.Generator) -> torch.Tensor:
        return torch.eye(6)[SEED].reshape(1, 6, 1, 1) * generator.initial_seed()

    def predict(self, x: torch.Tensor, timesteps: torch.Tensor, prompts: torch.Tensor) -> torch.Tensor:
        seeds, words = _seeds_of(x), prompts.flatten()
        self.stage.begin_step(self.mark, tuple(int(seed) for seed in seeds.tolist()))
        if (words == WORDS["no step"]).any():
            raise RuntimeError("a shape that does not fit")
        out = torch.zeros_like(x)
        out[:, STEPS, 0, 0] = 1.0
        out[:, SEEN, 0, 0] = seeds
        out[:, MARK, 0, 0] = float(self.mark)
        out[:, WORD, 0, 0] = words
        out[words == WORDS["nan"], SPOILT] = torch.nan
        out[words == WORDS["no pixels"], SPOILT] = 1.0
        return out

    def decode(self, x: torch.Tensor) -> np.ndarray:
        values = x.reshape(-1, 6)
        assert (values[:, MARK] == self.mark * values[:, STEPS]).all(), "latents of another model"
        if (values[:, SPOILT] > 0).any():  # not so of NaN, which gets a picture
            raise RuntimeError("no pixels in these latents")
        return _picture(values.numpy())


class TracedWhole(TracedModel):
    """The same pictures, drawn whole."""

    stepwise = False

    def generate(
        self,
        prompts: list[str],
        seeds: list[int],
        steps: int,
        guidance: float,
        on_step: Callable[[int, int], bool] | None = None,
        options: GuidanceOptions = PLAIN,
    ) -> np.ndarray:
        if "no words" in prompts:
            raise KeyError("no words")
        for step in range(1, steps + 1):
            self.stage.begin_step(self.mark, tuple(seeds))
            if "no step" in prompts:
                raise RuntimeError("a shape that does not fit")
            if on_step is not None and not on_step(step, steps):
                raise Cancelled("nobody waits for these images")
        if set(prompts) & set(BAD_PROMPTS):
            raise RuntimeError("no pixels in these latents")
        stories = [
            story(self.mark, prompt, seed, steps, guidance)
            for prompt, seed in zip(prompts, seeds, strict=True)
        ]
        return np.concatenate(stories)


def story(mark: int, prompt: str, seed: int, steps: int, guidance: float) -> np.ndarray:
    """The one right picture, uint8 [1, 2, 4, 3]: whose latents, how many steps, by which model, of which prompt."""
    times = 2 * steps - 1  # a step adds what the model says, and what it said the step before
    noisy = (steps + 1) // 2
    word = WORDS[prompt] * max(guidance, 1.0)
    values = [seed * (1 + noisy), times, seed * times, mark * times, word * times, 0.0]
    return _picture(np.array([values], np.float32))


def _picture(values: np.ndarray) -> np.ndarray:
    return np.ascontiguousarray(values).view(np.uint8).reshape(-1, 2, 4, 3)


def _seeds_of(x: torch.Tensor) -> torch.Tensor:
    """Whose latents each row holds: the inverse of `story`."""
    step = (x[:, STEPS, 0, 0] + 1).div(2, rounding_mode="floor")
    return x[:, SEED, 0, 0] / (1 + (step + 1).div(2, rounding_mode="floor"))
