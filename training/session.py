"""What a training loop may say to the outside: progress, figures, pictures; and hear: stop."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

from vouch.errors import Cancelled


@dataclass(frozen=True)
class Progress:
    """Where a run is. Example: ``Progress(120, 2000, "U-Net", {"loss": 0.21})``."""

    step: int
    total_steps: int
    message: str = ""
    metrics: Mapping[str, float] = field(default_factory=dict)


class Tracker(Protocol):
    """Where curves and pictures go (MLflow, or nowhere)."""

    def metrics(self, values: Mapping[str, float], step: int) -> None: ...

    def image(self, path: Path, step: int) -> None: ...


class NoTracker:
    """Keeps nothing."""

    def metrics(self, values: Mapping[str, float], step: int) -> None:
        return None

    def image(self, path: Path, step: int) -> None:
        return None


class Session:
    """One attempt at a run: its folder, its clock, and the two ways out.

    `tell` returns False once the run is to stop; `report` then raises `Cancelled`, after which the last
    checkpoint is still whole.
    """

    def __init__(
        self,
        folder: Path,
        tell: Callable[[Progress], bool] | None = None,
        tracker: Tracker | None = None,
        every_s: float = 1.0,
    ) -> None:
        self.folder = Path(folder)
        self.folder.mkdir(parents=True, exist_ok=True)
        self.tracker = tracker or NoTracker()
        self._tell = tell or (lambda progress: True)
        self._every_s = every_s
        self._told_at = 0.0

    def report(self, step: int, total_steps: int, message: str = "", **metrics: float) -> None:
        """Tells progress at most every `every_s` seconds, and always at the last step."""
        if metrics and (step % 10 == 0 or step == total_steps):
            self.tracker.metrics(metrics, step)
        now = time.monotonic()
        if step < total_steps and now - self._told_at < self._every_s:
            return
        self._told_at = now
        if not self._tell(Progress(step, total_steps, message, metrics)):
            raise Cancelled(f"The run was cancelled at step {step} of {total_steps}.")

    def note(self, name: str, value: Mapping[str, Any]) -> None:
        """Writes a JSON document into the run's folder."""
        (self.folder / name).write_text(json.dumps(value, indent=1, sort_keys=True))
