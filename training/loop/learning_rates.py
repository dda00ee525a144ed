"""Schedules of the learning rate, as shares of its peak. done: the share of the budget that is used up, in [0, 1]."""

from __future__ import annotations

import math

import torch


def warm_up(step: int, steps: int) -> float:
    """Linear from 0 to 1 over `steps` steps."""
    return min(1.0, step / max(1, steps))


def half_cosine(done: float, floor: float) -> float:
    """From 1 to `floor`."""
    return floor + (1 - floor) * 0.5 * (1 + math.cos(math.pi * min(1.0, done)))


def cosine(done: float, step: int, warmup: int, floor: float = 0.03) -> float:
    """Linear warm-up, then half a cosine from 1 to `floor`."""
    return warm_up(step, warmup) * half_cosine(done, floor)


def trapezoid(done: float, step: int, warmup: int, cooldown: float, floor: float = 0.01) -> float:
    """Linear warm-up, plateau, linear cool-down over the last `cooldown` share."""
    falling = min(1.0, max(0.0, (1.0 - done) / cooldown)) if cooldown else 1.0
    return warm_up(step, warmup) * max(falling, floor)


def one_cycle(done: float, rising: float = 0.2, first: float = 0.04, last: float = 4e-6) -> float:
    """Half a cosine up from `first` to 1 over the share `rising`, and one down to `last` (Smith & Topin 2017, arXiv
    1708.07120)."""
    if done < rising:
        return 1 - (1 - first) * 0.5 * (1 + math.cos(math.pi * done / rising))
    return half_cosine((done - rising) / (1 - rising), last)


def cycle_momentum(
    optimizer: torch.optim.Optimizer, share: float, most: float = 0.95, least: float = 0.85
) -> None:
    """Sets the first beta of AdamW between `most` where the rate is lowest and `least` at its peak (Smith 2018, arXiv
    1803.09820)."""
    for parameters in optimizer.param_groups:
        parameters["betas"] = (most - (most - least) * share, parameters["betas"][1])
