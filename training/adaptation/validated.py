"""Training whose kept weights are the best by a validation loss: averages, checkpoints, the end."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import nn

from training.adaptation.config import AdaptConfig
from training.adaptation.sheet import MOST_COPIES
from training.loop import checkpoint
from training.loop.ema import Ema
from training.loop.learning_rates import trapezoid
from training.loop.session import TrainingSession
from training.loop.trainer import Trainer

Sheet = Callable[[int], float]


class ValidatedTrainer(Trainer):
    """Weights with a learning rate each group, their optimiser and average, and the best of them so far.

    Args:
        groups: the optimiser's: weights, each with its learning rate.
        validation: the loss that decides; None: the last weights are kept.
        sheet: draws a sheet of images at a step, with the averaged weights in place, and tells what share of it are
            copies of training images. Beyond MOST_COPIES training ends with the best weights of before.
        guarded: whether the sheet looks for copies. If so, one is drawn with the weights that are kept at the end.
    """

    parts = ("trained", "optimizer")

    def __init__(
        self,
        groups: list[dict[str, Any]],
        validation: Callable[[], float] | None,
        config: AdaptConfig,
        session: TrainingSession,
        sheet: Sheet = lambda step: 0.0,
        guarded: bool = False,
    ) -> None:
        self.config, self.group, self.validation = config, session.group, validation
        self.sheet, self.guarded = sheet, guarded
        self.parameters: list[nn.Parameter] = [weight for group in groups for weight in group["params"]]
        self.trained = nn.ParameterList(self.parameters)
        self.optimizer = torch.optim.AdamW(
            groups, betas=(0.9, 0.99), weight_decay=config.weight_decay, fused=session.device == "cpu"
        )  # on a GPU the fused one asks for gradients in the memory format of their weights
        self.ema = Ema([self.trained], config.ema) if config.ema else None
        self.best: dict[str, Any] = {}
        self.safe: dict[str, Any] = {}
        """The best weights by the last sheet without copies; at first those of the base."""
        self.copied = False
        self.first_loss = float("nan")
        self.validated_at = -1

    def rate(self, done: float, step: int) -> float:
        return trapezoid(done, step, self.config.warmup, self.config.cooldown)

    def after_step(self, step: int, session: TrainingSession) -> bool:
        """Measures and draws when it is due; whether the last `patience` validation losses brought nothing."""
        if step % self.config.validate_every == 0:
            self._validate(step, session)
        if step and step % self.config.sheet_every == 0:
            self._guard(self._averaged(lambda: self.sheet(step)))
        since = (step - self.best["step"]) // self.config.validate_every if self.best else 0
        return self.copied or since >= self.config.patience

    def _guard(self, copied: float) -> None:
        """Goes back to the weights of the last sheet without copies."""
        if copied <= MOST_COPIES:
            self.safe = self.best
        elif not self.copied:
            self.copied, self.best = True, self.safe

    def finish(self, step: int, session: TrainingSession) -> None:
        """Measures once more, and draws with the best weights where no sheet was drawn since they were chosen."""
        self._validate(step, session)
        if self.guarded and not self.copied and self.best.get("step") != self.safe.get("step"):
            self._guard(self._with_best(lambda: self.sheet(step)))

    def _validate(self, step: int, session: TrainingSession) -> None:
        if self.validation is None or self.validated_at >= step or self.copied:
            return
        loss = self._averaged(self.validation)
        self.validated_at = step
        session.tracker.metrics({"validation_loss": loss}, step)
        if loss < self.best.get("loss", float("inf")):
            shadow = self.ema.shadow if self.ema else self.parameters
            weights = [weight.detach().cpu().clone() for weight in shadow]
            self.best = {"loss": loss, "step": step, "weights": weights}
        if step == 0:
            self.safe, self.first_loss = self.best, loss

    def _averaged(self, measure: Callable[[], Any]) -> Any:
        """What `measure` returns with the averaged weights in place."""
        if self.ema is None:
            return measure()
        self.ema.swap()
        try:
            return measure()
        finally:
            self.ema.swap()

    def _with_best(self, measure: Callable[[], Any]) -> Any:
        """What `measure` returns with the best weights in place."""
        now = [weight.detach().cpu().clone() for weight in self.parameters]
        checkpoint.restore(self.parameters, self.best["weights"])
        try:
            return measure()
        finally:
            checkpoint.restore(self.parameters, now)

    def keep_best(self) -> dict[str, float]:
        """Puts the best averaged weights into the model; the last ones where nothing validated. Which they are."""
        if not self.best:
            if self.ema:
                self.ema.swap()
            return {}
        checkpoint.restore(self.parameters, self.best["weights"])
        return {
            "best_step": float(self.best["step"]),
            "validation_loss": self.best["loss"],
            "validation_loss_before": self.first_loss,
            "ended_by_copies": float(self.copied),
        }

    def state_dict(self) -> dict[str, Any]:
        names = ("best", "safe", "copied", "first_loss", "validated_at")
        own = {name: getattr(self, name) for name in names}
        return super().state_dict() | own | ({"ema": self.ema.state_dict()} if self.ema else {})

    def load_state_dict(self, state: dict[str, Any]) -> None:
        super().load_state_dict(state)
        self.best, self.safe, self.copied = dict(state["best"]), dict(state["safe"]), state["copied"]
        self.first_loss, self.validated_at = state["first_loss"], state["validated_at"]
        if self.ema:
            self.ema.load_state_dict(state["ema"])
