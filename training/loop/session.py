"""The side of a run that a training loop sees: its folder, progress reports, curves, pictures, and cancellation."""

from __future__ import annotations

import copy
import json
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch

from training.loop.progress import Metric, TrainingProgress, as_numbers
from training.loop.tracker import NoTracker, PrefixedTracker, Tracker
from training.loop.worker_group import WorkerGroup
from vouch.errors import Cancelled


class TrainingSession:
    """One attempt at a run: its folder, its clock, and the two ways out.

    `tell` returns False once the run is to stop; `report` then raises `Cancelled`, after which the last
    checkpoint is still whole. Of several workers rank zero tells and is told, and all of them stop.
    `device` is where networks compute, "cpu" or "cuda".
    """

    def __init__(
        self,
        folder: Path,
        tell: Callable[[TrainingProgress], bool] | None = None,
        tracker: Tracker | None = None,
        every_s: float = 1.0,
        group: WorkerGroup | None = None,
        device: str = "cpu",
    ) -> None:
        self.folder = Path(folder)
        self.folder.mkdir(parents=True, exist_ok=True)
        self.tracker = tracker or NoTracker()
        self.group, self.device = group or WorkerGroup(), device
        self._tell = tell or (lambda progress: True)
        self._every_s = every_s
        self._told_at = 0.0
        if device != "cpu":  # crops and latents are of one size: the fastest convolution is looked for once
            torch.backends.cudnn.benchmark = True

    def report(self, step: int, total_steps: int, message: str = "", **metrics: Metric) -> None:
        """Tells progress at most every `every_s` seconds, and always at the last step. Every worker has to call it."""
        if not self.group.broadcast_scalar(
            not self.group.is_rank_zero or self._told(step, total_steps, message, metrics)
        ):
            raise Cancelled(f"The run was cancelled at step {step} of {total_steps}.")

    def _told(self, step: int, total_steps: int, message: str, metrics: Mapping[str, Metric]) -> bool:
        """Whether to go on."""
        last, now = step == total_steps, time.monotonic()
        tracked = bool(metrics) and (last or step % 10 == 0)
        due = last or now - self._told_at >= self._every_s
        if not (tracked or due):
            return True
        progress = TrainingProgress(step, total_steps, message, as_numbers(metrics))
        if tracked:
            self.tracker.metrics(progress.metrics, step)
        if not due:
            return True
        self._told_at = now
        return self._tell(progress)

    def phase(self, name: str) -> TrainingSession:
        """The same attempt in a phase that counts its own steps: its curves carry the name."""
        phase = copy.copy(self)
        phase.tracker = PrefixedTracker(self.tracker, name)
        return phase

    def note(self, name: str, value: Mapping[str, Any]) -> None:
        """Writes a JSON document into the run's folder; of several workers rank zero does."""
        if not self.group.is_rank_zero:
            return
        (self.folder / name).write_text(json.dumps(value, indent=1, sort_keys=True))
