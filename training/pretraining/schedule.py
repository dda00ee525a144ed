"""How long a phase lasts, how its learning rate moves, and one update."""

from __future__ import annotations

import math
import time

import torch
from torch import nn

from training.team import Team


class Budget:
    """Steps and, where given, minutes over all attempts: whichever is used up first ends the phase."""

    def __init__(self, steps: int, minutes: float | None, step: int = 0, seconds: float = 0.0) -> None:
        self.steps, self.minutes, self.step = steps, minutes, step
        self._seconds, self._started = seconds, time.monotonic()

    def spent(self) -> float:
        """Seconds over all attempts."""
        return self._seconds + time.monotonic() - self._started

    def done(self) -> float:
        """Share of the budget that is used up."""
        by_time = self.spent() / (60 * self.minutes) if self.minutes else 0.0
        return max(self.step / self.steps, by_time)

    def next(self) -> int:
        """Counts one more step and returns its number."""
        self.step += 1
        return self.step


def cosine(done: float, step: int, warmup: int, floor: float = 0.03) -> float:
    """Linear warm-up, then half a cosine from 1 to `floor`, as a share of the peak rate."""
    falling = floor + (1 - floor) * 0.5 * (1 + math.cos(math.pi * min(1.0, done)))
    return min(1.0, step / max(1, warmup)) * falling


def trapezoid(done: float, step: int, warmup: int, cooldown: float, floor: float = 0.01) -> float:
    """Linear warm-up, plateau, linear cool-down over the last `cooldown` share, as a share of the peak rate."""
    falling = min(1.0, max(0.0, (1.0 - done) / cooldown)) if cooldown else 1.0
    return min(1.0, step / max(1, warmup)) * max(falling, floor)


def set_lr(optimizer: torch.optim.Optimizer, lr: float) -> None:
    for group in optimizer.param_groups:
        group["lr"] = lr


def update(
    optimizer: torch.optim.Optimizer, parameters: list[nn.Parameter], team: Team, limit: float = 1.0
) -> None:
    """Averages the gradients of all workers, clips their norm at `limit`, and moves the weights."""
    team.average(parameters)
    torch.nn.utils.clip_grad_norm_(parameters, limit)
    optimizer.step()
