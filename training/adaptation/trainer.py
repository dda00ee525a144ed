"""A foundation model in training: one step of any recipe, its validation, and the weights that are kept."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from training.adaptation.config import AdaptConfig
from training.adaptation.data import CaptionedSet
from training.adaptation.latents import LatentSource
from training.adaptation.tuning import Tuning
from training.adaptation.validation import ValidationLoss
from training.loop import checkpoint
from training.loop.ema import Ema
from training.loop.gradient_step import apply_gradients
from training.loop.learning_rates import trapezoid
from training.loop.session import TrainingSession
from training.loop.trainer import Trainer
from training.objectives import denoising
from training.randomness import numbers, tensors

Sheet = Callable[[int], None]


@dataclass(frozen=True)
class Noised:
    """Latents x_t [N, C, h, w] on the way to noise, their timesteps [N] and captions, what the network should say of
    them, and how much each counts [N]."""

    x: torch.Tensor
    timesteps: torch.Tensor
    captions: list[str]
    wanted: torch.Tensor
    weight: torch.Tensor

    def part(self, rows: slice) -> Noised:
        return Noised(
            self.x[rows], self.timesteps[rows], self.captions[rows], self.wanted[rows], self.weight[rows]
        )  # fmt: skip


class AdaptationTrainer(Trainer):
    """Weights, optimiser and average of a tuning. Without `validation` the last weights are kept.

    sheet: draws a sheet of images at a step, with the averaged weights in place.
    """

    parts = ("trained", "optimizer")

    def __init__(
        self,
        tuning: Tuning,
        data: CaptionedSet,
        latents: LatentSource,
        validation: ValidationLoss | None,
        config: AdaptConfig,
        session: TrainingSession,
        sheet: Sheet = lambda step: None,
    ) -> None:
        self.tuning, self.data, self.latents, self.validation = tuning, data, latents, validation
        self.config, self.group, self._sheet = config, session.group, sheet
        self.parameters = tuning.weights
        self.trained = nn.ParameterList(self.parameters)
        self.optimizer = torch.optim.AdamW(tuning.groups, betas=(0.9, 0.99), weight_decay=config.weight_decay)
        self.ema = Ema([self.trained], config.ema) if config.ema else None
        self.best: dict[str, Any] = {}
        self.first_loss = float("nan")
        self.validated_at = -1

    def rate(self, done: float, step: int) -> float:
        return trapezoid(done, step, self.config.warmup, self.config.cooldown)

    def step(self, step: int, done: float) -> dict[str, float]:
        """One update, from the mean gradient of the batch's parts."""
        del done
        name = (self.group.rank_seed(self.config.seed), "adapt", step)
        torch.manual_seed(numbers(*name, "dropout").getrandbits(62))  # a resumed run drops the same
        batch = self._batch(name)
        count = len(batch.captions)
        size = -(-count // self.config.accumulate)
        self.optimizer.zero_grad(set_to_none=True)
        loss = 0.0
        for start in range(0, count, size):
            part = self._loss(batch.part(slice(start, start + size))) / count
            part.backward()
            loss += float(part.detach())
        apply_gradients(self.optimizer, self.parameters, self.group)
        self.tuning.after_update()
        if self.ema:
            self.ema.update()
        return {"loss": loss, "lr": self.optimizer.param_groups[0]["lr"]}

    def _batch(self, name: tuple[object, ...]) -> Noised:
        """Images and captions of this step, noised."""
        config, base, rng, random_ = self.config, self.tuning.base, numbers(*name), tensors(*name)
        rows = [rng.randrange(len(self.data)) for _ in range(self.group.batch_share(config.batch))]
        views = [rng.randrange(self.latents.variants) for _ in rows]
        captions = [self._caption(row, rng.random(), rng) for row in rows]
        clean = self.latents.clean(rows, views, random_)
        noise = torch.randn(clean.shape, generator=random_)
        timesteps = torch.randint(0, len(base.alphas), (len(rows),), generator=random_)
        x = denoising.noised(clean, noise, base.alphas, timesteps)
        wanted = denoising.target(base.prediction, clean, noise, base.alphas, timesteps)
        return Noised(x, timesteps, captions, wanted, self._weight(timesteps))

    def _caption(self, row: int, chance: float, rng: Any) -> str:
        caption = self.data.caption(row, rng)
        return "" if chance < self.config.drop_caption else self.tuning.worded(caption)

    def _weight(self, timesteps: torch.Tensor) -> torch.Tensor:
        base = self.tuning.base
        if not self.config.min_snr:
            return torch.ones(len(timesteps))
        snr = denoising.signal_to_noise(base.alphas, timesteps)
        return denoising.min_snr_weight(snr, base.prediction, self.config.min_snr)

    def _loss(self, part: Noised) -> torch.Tensor:
        """The weighted error, summed over the images."""
        base = self.tuning.base
        with base.autocast():
            output = self.tuning.predict(part.x.to(base.device), part.timesteps, part.captions)
        error = denoising.per_sample_error(output, part.wanted.to(output.device))
        return (part.weight.to(error) * error).sum()

    # ---- between steps

    def after_step(self, step: int, session: TrainingSession) -> bool:
        """Measures and draws when it is due; whether the last `patience` validation losses brought nothing."""
        if step % self.config.validate_every == 0:
            self._validate(step, session)
        if step and step % self.config.sheet_every == 0:
            self._averaged(lambda: self._sheet(step))
        since = (step - self.best["step"]) // self.config.validate_every if self.best else 0
        return since >= self.config.patience

    def finish(self, step: int, session: TrainingSession) -> None:
        self._validate(step, session)

    def _validate(self, step: int, session: TrainingSession) -> None:
        if self.validation is None or self.validated_at >= step:
            return
        loss = self._averaged(self.validation)
        self.validated_at = step
        session.tracker.metrics({"validation_loss": loss}, step)
        if step == 0:
            self.first_loss = loss
        if loss < self.best.get("loss", float("inf")):
            shadow = self.ema.shadow if self.ema else self.parameters
            weights = [weight.detach().cpu().clone() for weight in shadow]
            self.best = {"loss": loss, "step": step, "weights": weights}

    def _averaged(self, measure: Callable[[], Any]) -> Any:
        """What `measure` returns with the averaged weights in place."""
        if self.ema is None:
            return measure()
        self.ema.swap()
        try:
            return measure()
        finally:
            self.ema.swap()

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
        }

    def state_dict(self) -> dict[str, Any]:
        own = {"best": self.best, "first_loss": self.first_loss, "validated_at": self.validated_at}
        return super().state_dict() | own | ({"ema": self.ema.state_dict()} if self.ema else {})

    def load_state_dict(self, state: dict[str, Any]) -> None:
        super().load_state_dict(state)
        self.best, self.first_loss = dict(state["best"]), state["first_loss"]
        self.validated_at = state["validated_at"]
        if self.ema:
            self.ema.load_state_dict(state["ema"])
