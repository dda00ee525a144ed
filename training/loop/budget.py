"""How long a training lasts."""

from __future__ import annotations

import time


class StepBudget:
    """Steps and, where given, minutes over all attempts: whichever is used up first ends the training."""

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
