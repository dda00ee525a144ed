"""How long a rollout has been at its present share. Seconds of a monotonic clock, over all lives of the controller."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass

LONGEST_STEP_S = 10.0
"""Of two looks that are further apart no more than this counts: the process was stopped, and nothing was watched."""


@dataclass
class HoldTimer:
    """Adds up while it is watched. What an earlier life has held is handed in; the time between lives never counts."""

    clock: Callable[[], float] = time.monotonic
    rollout: str = ""
    percent: int = 0
    held_s: float = 0.0
    _looked_at: float | None = None

    def look(self, rollout: str, percent: int, counts: bool, kept: tuple[int, float]) -> float:
        """Seconds held at `percent`.

        counts: whether the time since the last look counts: only while every replica serves this share and the rollout
        is not paused. kept: share and seconds that the catalog has, of an earlier life.
        """
        moment = self.clock()
        if (self.rollout, self.percent) != (rollout, percent):
            self.rollout, self.percent = rollout, percent
            self.held_s = kept[1] if kept[0] == percent else 0.0
        elif counts and self._looked_at is not None:
            self.held_s += min(max(0.0, moment - self._looked_at), LONGEST_STEP_S)
        self._looked_at = moment
        return self.held_s
