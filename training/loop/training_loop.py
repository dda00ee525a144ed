"""The training loop that every trainer runs in: resume, budget, learning rate, checkpoints, progress, workers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import torch

from training.loop import checkpoint
from training.loop.budget import StepBudget
from training.loop.progress import Metric, as_numbers
from training.loop.session import TrainingSession
from training.loop.trainer import Trainer


@dataclass(frozen=True)
class TrainingResult:
    """Steps and seconds over all attempts, and the metrics of the last step."""

    steps: int
    seconds: float
    metrics: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class TrainingLoop:
    """Runs a trainer to the end of its budget, from its last checkpoint where there is one.

    Every worker runs the loop. Rank zero validates, keeps the checkpoints and decides when it ends.

    Args:
        message: its name in progress reports.
        folder: where its checkpoints are.
        steps, minutes: the budget over all attempts; whichever is used up first ends it.
        checkpoint_every: steps between checkpoints; there is always one after the last step.
        metrics_prefix: put before the names of the metrics that progress tells.
    """

    trainer: Trainer
    session: TrainingSession
    message: str
    folder: Path
    steps: int
    minutes: float | None = None
    checkpoint_every: int = 100
    metrics_prefix: str = ""

    def run(self) -> TrainingResult:
        """Raises Cancelled when the run is to stop; DataLoss when no checkpoint can be read."""
        trainer, group = self.trainer, self.session.group
        peaks = [parameters["lr"] for parameters in trainer.optimizer.param_groups]
        budget, metrics = self._resume()
        group.broadcast_parameters(trainer.parameters)
        stop = self._after_step(budget.step)
        while (done := group.broadcast_scalar(1.0 if stop else budget.done())) < 1.0:
            step = budget.next()
            _set_rate(trainer.optimizer, peaks, trainer.rate(done, step))
            metrics = trainer.step(step, done)
            self._report(step, metrics)
            stop = self._after_step(step)
            if step % self.checkpoint_every == 0:
                self._save(budget, metrics)
        return self._finish(budget, metrics)

    def _resume(self) -> tuple[StepBudget, Mapping[str, Metric]]:
        saved = checkpoint.load_latest(self.folder)
        if saved is None:
            return StepBudget(self.steps, self.minutes), {}
        step, state = saved
        self.trainer.load_state_dict(state["trainer"])
        return StepBudget(self.steps, self.minutes, step, state["seconds"]), state["metrics"]

    def _after_step(self, step: int) -> bool:
        return self.session.group.is_rank_zero and self.trainer.after_step(step, self.session)

    def _report(self, step: int, metrics: Mapping[str, Metric]) -> None:
        named = {f"{self.metrics_prefix}{name}": value for name, value in metrics.items()}
        self.session.report(step, self.steps, self.message, **named)

    def _save(self, budget: StepBudget, metrics: Mapping[str, Metric]) -> None:
        if self.session.group.is_rank_zero:
            state = {
                "trainer": self.trainer.state_dict(),
                "seconds": budget.spent(),
                "metrics": as_numbers(metrics),
            }
            checkpoint.save(self.folder, budget.step, state)

    def _finish(self, budget: StepBudget, metrics: Mapping[str, Metric]) -> TrainingResult:
        if self.session.group.is_rank_zero:
            self.trainer.finish(budget.step, self.session)
        self._save(budget, metrics)
        if budget.step < self.steps:  # a bar would stand still at the step at which time ran out
            self._report(self.steps, metrics)
        return TrainingResult(budget.step, budget.spent(), as_numbers(metrics))


def _set_rate(optimizer: torch.optim.Optimizer, peaks: Sequence[float], share: float) -> None:
    for parameters, peak in zip(optimizer.param_groups, peaks, strict=True):
        parameters["lr"] = peak * share
