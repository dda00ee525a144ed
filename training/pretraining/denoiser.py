"""Text encoder and U-Net: trained together on latents, averaged, and kept where they predict held-out images best."""

from __future__ import annotations

import random
from typing import Any

import torch
from diffusers.models.attention_processor import AttnProcessor

from training import checkpoint
from training.data import Examples, random_caption
from training.ema import Ema
from training.objectives import denoising
from training.pretraining.config import PretrainConfig
from training.pretraining.grids import contact_sheet
from training.pretraining.networks import Networks
from training.pretraining.precision import autocast
from training.pretraining.schedule import Budget, set_lr, trapezoid, update
from training.randomness import numbers, tensors
from training.session import Session
from vouch.models.captions import caption

TIMESTEPS = 1000
FULL_CAPTIONS = 0.15
"""Share of captions that name every annotated attribute: a client may ask for all of them."""


def fit_denoiser(
    config: PretrainConfig,
    networks: Networks,
    train: tuple[Examples, torch.Tensor],
    held_out: tuple[Examples, torch.Tensor] | None,
    session: Session,
) -> dict[str, Any]:
    """Trains `networks.trained`, resuming from the session's folder, and leaves the best averaged weights in them.

    Args:
        train, held_out: images with their latents [views, N, C, h, w]. Held-out images choose the length of the
            average and the step; without them the first length and the last step are kept.
    """
    trainer = DenoiserTrainer(config, networks, *train, session)
    validation = Validation(config, networks, *held_out) if held_out else None
    folder, team = session.folder / "unet", session.team
    first, seconds = 0, 0.0
    if found := checkpoint.load_latest(folder):
        first, state = found
        trainer.load_state_dict(state["trainer"])
        seconds = state["seconds"]
    team.align(trainer.parameters)
    budget = Budget(config.steps, config.minutes, first, seconds)
    while (done := team.agree(budget.done())) < 1.0:
        step = budget.next()
        loss = trainer.step(step, done)
        rate = trainer.optimizer.param_groups[0]["lr"]
        session.report(step, config.steps, "U-Net", loss=loss, lr=rate)
        last = team.agree(budget.done()) >= 1.0
        if not team.leads:
            continue
        if validation and (step % config.validate_every == 0 or last):
            session.tracker.metrics(trainer.validate(validation, step), step)
        if step % config.checkpoint_every == 0 or last:
            checkpoint.save(
                folder, step, {"trainer": trainer.state_dict(), "seconds": budget.spent(), "loss": loss}
            )
        if step % config.grid_every == 0:
            trainer.draw_grid(session, step)
    return {"unet_seconds": budget.spent(), **trainer.finish(budget.step)}


class DenoiserTrainer:
    """Networks, optimiser and averages, and one step of them."""

    def __init__(
        self,
        config: PretrainConfig,
        networks: Networks,
        examples: Examples,
        latents: torch.Tensor,
        session: Session,
    ) -> None:
        self.config, self.networks, self.examples, self.team = config, networks, examples, session.team
        self.latents = latents.to(session.device)
        self.parameters = [p for m in networks.trained for p in m.parameters()]
        self.optimizer = torch.optim.AdamW(
            self.parameters, lr=config.lr, betas=(0.9, 0.99), weight_decay=config.weight_decay
        )
        self.averages = [Ema(networks.trained, decay) for decay in config.ema]
        self.best: dict[str, Any] = {}
        self.loss = 0.0
        if session.device == "cpu":
            networks.unet.set_attn_processor(AttnProcessor())  # the fused one is slow backward
        self.unet = torch.compile(networks.unet) if session.device != "cpu" else networks.unet

    def step(self, step: int, done: float) -> float:
        """One update; returns the loss."""
        config = self.config
        set_lr(self.optimizer, config.lr * trapezoid(done, step, config.warmup, config.cooldown))
        name = (self.team.seed(config.seed), "unet", step)
        rng, random_ = numbers(*name), tensors(*name)
        torch.manual_seed(numbers(*name, "dropout").getrandbits(62))  # a resumed run drops the same
        count = self.team.share(config.batch)
        rows = torch.randint(0, self.latents.shape[1], (count,), generator=random_)
        views = torch.randint(0, len(self.latents), (count,), generator=random_)
        clean = self.latents[views.to(self.latents.device), rows.to(self.latents.device)].float()
        captions = [draw_caption(self.examples, int(row), config.drop_caption, rng) for row in rows]
        timesteps = draw_timesteps(count, config, random_)
        noise = torch.randn(clean.shape, generator=random_).to(clean)
        with autocast(config.precision, self.networks.device):
            prompts = self.networks.embed(captions)
            loss = velocity_error(self.networks, self.unet, clean, noise, timesteps, prompts).mean()
        self.optimizer.zero_grad(set_to_none=True)
        loss.backward()
        update(self.optimizer, self.parameters, self.team)
        for average in self.averages:
            average.update()
        self.loss = float(loss.detach())
        return self.loss

    def validate(self, validation: Validation, step: int) -> dict[str, float]:
        """Held-out loss with each average; remembers the best weights so far."""
        losses = {}
        for decay, average in zip(self.config.ema, self.averages, strict=True):
            average.swap()
            losses[f"held_out_loss_{decay}"] = loss = validation.loss()
            average.swap()
            if loss < self.best.get("loss", float("inf")):
                weights = [weight.clone() for weight in average.shadow]
                self.best = {"loss": loss, "step": step, "decay": decay, "weights": weights}
        return losses

    def finish(self, step: int) -> dict[str, Any]:
        """Puts the best averaged weights into the networks; returns the figures."""
        if not self.best:
            self.averages[0].swap()
            return {"unet_steps": step, "unet_loss": self.loss}
        checkpoint.restore(self.parameters, self.best["weights"])
        chosen = {f"unet_best_{name}": self.best[name] for name in ("loss", "step", "decay")}
        return {"unet_steps": step, "unet_loss": self.loss, **chosen}

    @torch.no_grad()
    def draw_grid(self, session: Session, step: int) -> None:
        """Four images of every label by default serving, from the first average."""
        self.averages[0].swap()
        labels = self.networks.vocabulary.labels
        prompts = [caption(label) for label in labels for _ in range(4)]
        seeds = [torch.Generator().manual_seed(number) for number in range(len(prompts))]
        images = self.networks.pipeline()(
            prompts,
            num_inference_steps=self.config.default_steps,
            guidance_scale=self.config.default_guidance,
            generator=seeds,
            output_type="np",
        ).images
        path = session.folder / f"grid-{step:06d}.png"
        contact_sheet((images * 255).round().astype("uint8"), columns=4 * 2, path=path)
        session.tracker.image(path, step)
        self.averages[0].swap()

    def state_dict(self) -> dict[str, Any]:
        return {
            "unet": self.networks.unet.state_dict(),
            "text_encoder": self.networks.text_encoder.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "averages": [average.state_dict() for average in self.averages],
            "best": self.best,
            "loss": self.loss,
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.networks.unet.load_state_dict(state["unet"])
        self.networks.text_encoder.load_state_dict(state["text_encoder"])
        self.optimizer.load_state_dict(state["optimizer"])
        for average, saved in zip(self.averages, state["averages"], strict=True):
            average.load_state_dict(saved)
        self.best, self.loss = dict(state["best"]), state["loss"]


class Validation:
    """The denoising loss of held-out images: the same images, captions, noise and timesteps every time."""

    def __init__(
        self, config: PretrainConfig, networks: Networks, examples: Examples, latents: torch.Tensor
    ) -> None:
        self.config, self.networks = config, networks
        rng, random_ = numbers(config.seed, "validation"), tensors(config.seed, "validation")
        count = min(config.validated, latents.shape[1])
        rows = torch.randperm(latents.shape[1], generator=random_)[:count]
        self.clean = latents[0, rows].float().to(networks.device)
        self.captions = [draw_caption(examples, int(row), 0.0, rng) for row in rows]
        self.noise = torch.randn(self.clean.shape, generator=random_).to(self.clean)
        self.timesteps = draw_timesteps(count, config, random_)

    @torch.no_grad()
    def loss(self, batch: int = 64) -> float:
        """Mean velocity error over the held-out images."""
        modes = [(module, module.training) for module in self.networks.trained]
        for module, _ in modes:
            module.eval()
        errors = [self._errors(slice(start, start + batch)) for start in range(0, len(self.clean), batch)]
        for module, training in modes:
            module.train(training)
        return float(torch.cat(errors).mean())

    def _errors(self, part: slice) -> torch.Tensor:
        with autocast(self.config.precision, self.networks.device):
            prompts = self.networks.embed(self.captions[part])
            return velocity_error(
                self.networks,
                self.networks.unet,
                self.clean[part],
                self.noise[part],
                self.timesteps[part],
                prompts,
            )


def velocity_error(
    networks: Networks,
    unet: Any,
    clean: torch.Tensor,
    noise: torch.Tensor,
    timesteps: torch.Tensor,
    prompts: torch.Tensor,
) -> torch.Tensor:
    """Squared error [N] of the predicted velocity (v-prediction, arXiv 2202.00512) of latents [N, C, h, w]."""
    alphas = networks.scheduler.alphas_cumprod
    noisy = networks.scheduler.add_noise(clean, noise, timesteps.to(clean.device))
    output = unet(
        noisy.contiguous(memory_format=torch.channels_last), timesteps.to(clean.device), prompts
    ).sample
    wanted = denoising.target(
        "v_prediction", clean, noise, alphas.to(clean.device), timesteps.to(clean.device)
    )
    return denoising.per_sample_error(output, wanted)


def draw_timesteps(count: int, config: PretrainConfig, random_: torch.Generator) -> torch.Tensor:
    """Timesteps [count] of 1,000: logit-normal (Esser et al. 2024, arXiv 2403.03206, eq. 19), because structure is
    decided in the middle of the trajectory; a share is uniform, because sampling begins at its very end."""
    logits = config.timestep_shift + config.timestep_spread * torch.randn(count, generator=random_)
    share = torch.rand(count, generator=random_)
    even = torch.rand(count, generator=random_) < config.timestep_uniform
    return (torch.where(even, share, torch.sigmoid(logits)) * TIMESTEPS).long().clamp(0, TIMESTEPS - 1)


def draw_caption(examples: Examples, row: int, drop: float, rng: random.Random) -> str:
    """The caption of one image in one of its forms; empty with probability `drop`, for guidance."""
    if rng.random() < drop:
        return ""
    return random_caption(examples.labels[row], examples.attributes[row], rng, full=FULL_CAPTIONS)
