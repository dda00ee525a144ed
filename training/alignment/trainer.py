"""The LoRA in training: one step of any method, and the validation monitor between steps."""

from __future__ import annotations

import torch

from training.alignment.config import AlignConfig
from training.alignment.methods.method import Method
from training.alignment.step_rng import StepRng
from training.alignment.student import Student
from training.alignment.validation_monitor import ValidationMonitor
from training.loop.gradient_step import gradient_step
from training.loop.learning_rates import warm_up
from training.loop.session import TrainingSession
from training.loop.trainer import Trainer
from training.loop.training_loop import TrainingLoop, TrainingResult


class AlignmentTrainer(Trainer):
    """A student that learns by a method; its optimiser, its validation and its count of network passes."""

    parts = ("lora", "optimizer", "method", "monitor", "passes")

    def __init__(
        self,
        student: Student,
        method: Method,
        monitor: ValidationMonitor,
        config: AlignConfig,
        session: TrainingSession,
    ) -> None:
        self.config, self.group = config, session.group
        self.method, self.monitor, self.passes = method, monitor, student.passes
        self.parameters, self.lora = student.trained, torch.nn.ParameterList(student.trained)
        self.optimizer = torch.optim.AdamW(student.trained, lr=config.lr, betas=(0.9, 0.99), weight_decay=0.0)

    def rate(self, done: float, step: int) -> float:
        return warm_up(step, 10)

    def step(self, step: int, done: float) -> dict[str, float]:
        del done
        loss = self.method.loss(StepRng.of(self.group.rank_seed(self.config.seed), step))
        gradient_step(loss, self.optimizer, self.parameters, self.group)
        return {"loss": float(loss.detach())}

    def after_step(self, step: int, session: TrainingSession) -> bool:
        """Measures when it is due; whether the monitor says to stop."""
        if self.monitor.due(step):
            self.monitor.measure(step)
        return self.monitor.stop

    def finish(self, step: int, session: TrainingSession) -> None:
        """The last weights are measured too, where any are."""
        if self.monitor.points:
            self.monitor.measure(step)


def train(
    student: Student,
    method: Method,
    monitor: ValidationMonitor,
    config: AlignConfig,
    session: TrainingSession,
    message: str = "",
) -> TrainingResult:
    """Trains the student by any method, validated by the monitor. message: what progress says of it; default: the
    method's name."""
    trainer = AlignmentTrainer(student, method, monitor, config, session)
    message = message or config.method.replace("_", " ")
    return TrainingLoop(
        trainer,
        session,
        message,
        session.folder / "lora",
        config.steps,
        config.minutes,
        config.checkpoint_every,
    ).run()
