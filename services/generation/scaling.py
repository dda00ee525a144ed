"""Autoscaling: the number of replicas for the images that run and wait. No Ray."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ray.serve.config import AutoscalingContext

RUNNING, WAITING = "images_running", "images_waiting"

# Seconds. The mean over a few reports tolerates a late one. Growing is quick: loading a model takes time, and the
# queue grows meanwhile.
REPORT_S = 1.0
MEAN_OVER_S = 3.0
GROW_AFTER_S = 2.0


@dataclass(frozen=True)
class Load:
    """Images on one replica, means over the last seconds."""

    running: float
    waiting: float

    @property
    def idle(self) -> bool:
        return self.running + self.waiting == 0


def replicas_wanted(loads: Sequence[Load], *, slots: int, current: int) -> int:
    """Replicas for these loads.

    Args:
        slots: images that one replica denoises together.
        current: replicas now; the newest may have no load yet.

    More when every replica is busy and more images wait than free slots would take: a queued image cannot move to
    another replica, so next to an idle replica a new one would be idle too. One when nothing runs or waits (Serve
    applies the bounds, and `idle_s` of the settings as the delay). Otherwise the current number.
    """
    busy = [load for load in loads if not load.idle]
    if not busy:
        return 1
    if len(busy) < current:
        return current
    free = sum(max(0.0, slots - load.running - load.waiting) for load in busy)
    excess = sum(load.waiting for load in busy) - free
    return current + max(0, math.ceil(excess / slots))


class QueuedSlots:
    """The policy that Serve's controller calls several times a second. Serve applies the bounds and delays."""

    def __init__(self, slots: int) -> None:
        self._slots = slots

    def __call__(self, context: AutoscalingContext) -> tuple[int, dict[str, object]]:
        means = context.aggregated_metrics or {}
        running, waiting = means.get(RUNNING, {}), means.get(WAITING, {})
        loads = [Load(running[replica], waiting.get(replica, 0.0)) for replica in running]
        return replicas_wanted(loads, slots=self._slots, current=context.current_num_replicas), {}
