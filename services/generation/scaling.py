"""How many replicas the images that run and wait ask for. No Ray: what Serve hands over is read as plain values."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ray.serve.config import AutoscalingContext

RUNNING, WAITING = "images_running", "images_waiting"

# Seconds. A few reports make a mean that one late report cannot turn; a queue that lasts is long by the time a model is
# loaded, so the answer to it is quick.
REPORT_S = 1.0
MEAN_OVER_S = 3.0
GROW_AFTER_S = 2.0


@dataclass(frozen=True)
class Load:
    """Images on one replica, as a mean over the last seconds."""

    running: float
    waiting: float

    @property
    def idle(self) -> bool:
        return self.running + self.waiting == 0


def replicas_wanted(loads: Sequence[Load], *, slots: int, current: int) -> int:
    """Replicas for these loads, `slots` images each; `current` run now, the newest perhaps without a load yet.

    More when more waits than free slots would take in, and every replica is at work: what waits in one cannot move to
    another, so beside an idle one a further one would be idle too. As few as allowed when nothing runs or waits at all;
    how long that must last is `idle_s` of the settings. In between, as many as there are.
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
    """The policy as Serve's controller calls it, several times a second; Serve keeps to the bounds and the delays."""

    def __init__(self, slots: int) -> None:
        self._slots = slots

    def __call__(self, context: AutoscalingContext) -> tuple[int, dict[str, Any]]:
        means = context.aggregated_metrics or {}
        running, waiting = means.get(RUNNING, {}), means.get(WAITING, {})
        loads = [Load(running[replica], waiting.get(replica, 0.0)) for replica in running]
        return replicas_wanted(loads, slots=self._slots, current=context.current_num_replicas), {}
