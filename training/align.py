"""Alignment: a LoRA that draws what the experts find plausible, without forgetting what its parent knew.

One loop for all methods: each makes one step's loss (`training/methods`).
"""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

import torch

from training import checkpoint
from training.attributes import half_of
from training.data import load_examples
from training.inputs import load_rated
from training.methods.ddpo import Ddpo
from training.methods.dpo import Dpo
from training.methods.draft import Draft
from training.methods.kto import Kto
from training.methods.method import Chance, Method
from training.methods.nft import Nft
from training.methods.reward_gradient import Guard, RewardGradient
from training.methods.reward_weighted import RewardWeighted
from training.pool import Pool, rated_pool, real_pool
from training.randomness import numbers
from training.session import Session
from training.student import Student
from vouch.errors import FailedPrecondition
from vouch.recipes import Alignment

ANCHOR_IMAGES = 2048


class AlignConfig(Alignment):
    """One alignment."""

    out: Path
    base: Path
    """The diffusers folder that the LoRA belongs to."""
    parent: Path | None = None
    """A LoRA folder upon `base` to go on from."""
    reward: Path


def fit(config: AlignConfig, session: Session) -> dict[str, float]:
    """Trains the LoRA and saves it in `config.out` in diffusers' own layout.

    Raises:
        FailedPrecondition: no rated images.
        InvalidInput: a base whose prediction or pipeline is not understood.
    """
    torch.set_num_threads(config.threads)
    torch.manual_seed(config.seed)
    rated = load_rated(session.folder)
    if rated is None:
        raise FailedPrecondition("Alignment learns from rated images, and there are none.", "NO_RATINGS")
    student = Student(config.base, config.parent, config.reward, config.rank)
    pool = rated_pool(student, rated)
    method = METHODS[config.method](student, pool, config)
    seconds, last = _train(student, method, config, session)
    student.save(config.out)
    figures = {
        "train_seconds": seconds,
        "loss": last,
        "rated_images": float(len(rated)),
        "reward_of_pool": float(pool.rewards.mean()),
    }
    session.note("figures.json", figures)
    return figures


def _reward_weighted(student: Student, pool: Pool, config: AlignConfig) -> Method:
    real = None
    if config.data is not None:
        examples = half_of(load_examples(config.data), config.half)
        real = real_pool(student, examples, ANCHOR_IMAGES, numbers(config.seed, "anchor"))
    return RewardWeighted(student, pool, real, batch=config.batch, beta=config.beta)


def _kto(student: Student, pool: Pool, config: AlignConfig) -> Method:
    return Kto(student, pool, batch=config.batch, beta=config.divergence)


def _dpo(student: Student, pool: Pool, config: AlignConfig) -> Method:
    return Dpo(student, pool, batch=config.batch, beta=config.divergence)


def _nft(student: Student, pool: Pool, config: AlignConfig) -> Method:
    return Nft(student, pool, batch=config.batch, strength=config.strength, anchor=config.anchor)


def _reward_gradient(student: Student, pool: Pool, config: AlignConfig) -> Method:
    return RewardGradient(
        student,
        pool,
        _guard(config),
        batch=config.batch,
        latest=config.latest,
        earliest=config.earliest,
        steps=config.gradient_steps,
        stride=config.stride,
    )


def _draft(student: Student, pool: Pool, config: AlignConfig) -> Method:
    return Draft(
        student,
        pool,
        _guard(config),
        batch=config.batch,
        steps=config.sample_steps,
        last=config.gradient_steps,
        views=config.views,
    )


def _ddpo(student: Student, pool: Pool, config: AlignConfig) -> Method:
    return Ddpo(
        student,
        pool,
        batch=config.batch,
        steps=config.sample_steps,
        passes=config.gradient_steps,
        groups=config.groups,
        clip=config.clip,
        anchor=config.anchor,
    )


METHODS: dict[str, Callable[[Student, Pool, AlignConfig], Method]] = {
    "reward_weighted": _reward_weighted,
    "kto": _kto,
    "dpo": _dpo,
    "nft": _nft,
    "reward_gradient": _reward_gradient,
    "draft": _draft,
    "ddpo": _ddpo,
}


def _guard(config: AlignConfig) -> Guard:
    return Guard(config.caution, config.anchor, config.symmetric)


def _train(student: Student, method: Method, config: AlignConfig, session: Session) -> tuple[float, float]:
    optimizer = torch.optim.AdamW(student.trained, lr=config.lr, betas=(0.9, 0.99), weight_decay=0.0)
    step, seconds = _resume(student, optimizer, session.folder / "lora")
    started, loss = time.monotonic(), 0.0

    def spent() -> float:
        return seconds + time.monotonic() - started

    while step < config.steps and (config.minutes is None or spent() < 60 * config.minutes):
        step += 1
        for group in optimizer.param_groups:
            group["lr"] = config.lr * min(1.0, step / 10)
        current = method.loss(Chance.of(config.seed, step))
        optimizer.zero_grad(set_to_none=True)
        current.backward()
        torch.nn.utils.clip_grad_norm_(student.trained, 1.0)
        optimizer.step()
        loss = float(current.detach())
        session.report(step, config.steps, config.method.replace("_", " "), loss=loss)
        if step % config.checkpoint_every == 0:
            state = {"lora": list(student.trained), "optimizer": optimizer.state_dict(), "seconds": spent()}
            checkpoint.save(session.folder / "lora", step, state)
    session.report(config.steps, config.steps, "done", loss=loss)
    return spent(), loss


def _resume(student: Student, optimizer: torch.optim.Optimizer, folder: Path) -> tuple[int, float]:
    found = checkpoint.load_latest(folder)
    if found is None:
        return 0, 0.0
    step, state = found
    with torch.no_grad():
        for parameter, saved in zip(student.trained, state["lora"], strict=True):
            parameter.copy_(saved)
    optimizer.load_state_dict(state["optimizer"])
    return step, state["seconds"]
