"""Text encoder and U-Net in training."""

from __future__ import annotations

from typing import Any

import torch
from diffusers.models.attention_processor import AttnProcessor

from training.contact_sheet import contact_sheet
from training.evaluation.copies import CopyAlarm
from training.loop import checkpoint
from training.loop.ema import Ema
from training.loop.gradient_step import gradient_step
from training.loop.learning_rates import trapezoid
from training.loop.progress import Metric
from training.loop.session import TrainingSession
from training.loop.trainer import Trainer
from training.pretraining.captioned import Captioned
from training.pretraining.config import PretrainConfig
from training.pretraining.denoising import draw_caption, draw_timesteps, velocity_error
from training.pretraining.held_out_loss import HeldOutLoss
from training.pretraining.networks import Networks
from training.pretraining.precision import autocast
from training.randomness import numbers, tensors
from vouch.models.captions import caption


class DenoiserTrainer(Trainer):
    """Networks, optimiser and averages, and one step of them. Without `validation` the last weights are the best.

    alarm: told of what is drawn while it trains; a model that repeats training images sets it off.
    """

    parts = ("trained", "optimizer")

    def __init__(
        self,
        config: PretrainConfig,
        networks: Networks,
        examples: Captioned,
        latents: torch.Tensor,
        session: TrainingSession,
        validation: HeldOutLoss | None,
        alarm: CopyAlarm | None = None,
    ) -> None:
        self.config, self.networks, self.examples, self.group = config, networks, examples, session.group
        self.validation, self.validated_at, self.alarm = validation, 0, alarm
        self.latents = latents.to(session.device)
        self.trained = torch.nn.ModuleList(networks.trained)
        self.parameters = list(self.trained.parameters())
        self.optimizer = torch.optim.AdamW(
            self.parameters, lr=config.lr, betas=(0.9, 0.99), weight_decay=config.weight_decay
        )
        self.averages = [Ema(networks.trained, decay) for decay in config.ema]
        self.best: dict[str, Any] = {}
        self.done = 0.0
        self.guide: list[torch.Tensor] = []
        """Averaged weights of an early step, for autoguidance; none where none are kept."""
        if session.device == "cpu":
            networks.unet.set_attn_processor(AttnProcessor())  # the fused one is slow backward
        self.unet = torch.compile(networks.unet) if session.device != "cpu" else networks.unet

    def rate(self, done: float, step: int) -> float:
        return trapezoid(done, step, self.config.warmup, self.config.cooldown)

    def step(self, step: int, done: float) -> dict[str, Metric]:
        """One update of networks and averages."""
        self.done = done
        name = (self.group.rank_seed(self.config.seed), "unet", step)
        torch.manual_seed(numbers(*name, "dropout").getrandbits(62))  # a resumed run drops the same
        loss = self._loss(name)
        gradient_step(loss, self.optimizer, self.parameters, self.group)
        for average in self.averages:
            average.update()
        return {"loss": loss.detach(), "lr": self.optimizer.param_groups[0]["lr"]}

    def _loss(self, name: tuple[object, ...]) -> torch.Tensor:
        """Mean velocity error of a batch of noised latents. name: of this step's random numbers. Rows are drawn on the
        CPU, which words their captions, and what is large on the device: nothing waits for it."""
        config, count, device = self.config, self.group.batch_share(self.config.batch), self.latents.device
        rng, random_, noises = numbers(*name), tensors(*name), tensors(*name, "noise", device=device)
        rows = torch.randint(0, self.latents.shape[1], (count,), generator=random_)
        views = torch.randint(0, len(self.latents), (count,), generator=random_)
        captions = [draw_caption(self.examples, row, config.drop_caption, rng) for row in rows.tolist()]
        clean = self.latents[views.to(device), rows.to(device)].float()
        timesteps = draw_timesteps(count, config, noises)
        noise = torch.randn(clean.shape, generator=noises, device=device)
        with autocast(config.precision, self.networks.device):
            prompts = self.networks.embed(captions)
            return velocity_error(self.networks, self.unet, clean, noise, timesteps, prompts).mean()

    def after_step(self, step: int, session: TrainingSession) -> bool:
        if step and step % self.config.validate_every == 0:
            self._validate(step, session)
        if step and step % self.config.grid_every == 0:
            self.draw_grid(session, step)
        if self.config.guide_at and not self.guide and self.done >= self.config.guide_at:
            self.guide = [weight.clone() for weight in self.averages[-1].shadow]
        return False

    def finish(self, step: int, session: TrainingSession) -> None:
        self._validate(step, session)

    def _validate(self, step: int, session: TrainingSession) -> None:
        """Held-out loss with each average; remembers the best weights so far."""
        if self.validation is None or self.validated_at >= step:
            return
        losses = {}
        for decay, average in zip(self.config.ema, self.averages, strict=True):
            average.swap()
            losses[f"held_out_loss_{decay}"] = loss = self.validation.loss()
            average.swap()
            if loss < self.best.get("loss", float("inf")):
                weights = [weight.clone() for weight in average.shadow]
                self.best = {"loss": loss, "step": step, "decay": decay, "weights": weights}
        self.validated_at = step
        session.tracker.metrics(losses, step)

    def keep_best(self) -> dict[str, Any]:
        """Puts the best averaged weights into the networks; returns which they are."""
        if not self.best:
            self.averages[0].swap()
            return {}
        checkpoint.restore(self.parameters, self.best["weights"])
        return {f"unet_best_{name}": self.best[name] for name in ("loss", "step", "decay")}

    @torch.no_grad()
    def draw_grid(self, session: TrainingSession, step: int) -> None:
        """Four images of every label by default serving, from the first average; tells how many are near copies."""
        self.averages[0].swap()
        prompts = [caption(label) for label in sorted(set(self.examples.labels)) for _ in range(4)]
        seeds = [torch.Generator().manual_seed(number) for number in range(len(prompts))]
        images = self.networks.pipeline()(
            prompts,
            num_inference_steps=self.config.default_steps,
            guidance_scale=self.config.default_guidance,
            generator=seeds,
            output_type="np",
        ).images
        path, images = session.folder / f"grid-{step:06d}.png", (images * 255).round().astype("uint8")
        contact_sheet(images, columns=4 * 2, path=path)
        if self.alarm is not None:
            session.tracker.metrics({"copy_alarms": float(self.alarm.alarmed(images).mean())}, step)
        session.tracker.image(path, step)
        self.averages[0].swap()

    def state_dict(self) -> dict[str, Any]:
        averages = [average.state_dict() for average in self.averages]
        own = {
            "averages": averages,
            "best": self.best,
            "guide": self.guide,
            "validated_at": self.validated_at,
        }
        return super().state_dict() | own

    def load_state_dict(self, state: dict[str, Any]) -> None:
        super().load_state_dict(state)
        for average, saved in zip(self.averages, state["averages"], strict=True):
            average.load_state_dict(saved)
        self.best, self.validated_at = dict(state["best"]), state["validated_at"]
        self.guide = list(state["guide"])
