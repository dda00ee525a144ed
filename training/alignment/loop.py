"""Alignment: a LoRA that draws what the experts find plausible, without forgetting what its parent knew.

One loop for all methods: each makes one step's loss (`training/alignment/methods`), and all are watched alike.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

import torch

from training import checkpoint
from training.alignment.methods.awm import Awm
from training.alignment.methods.ddpo import Ddpo
from training.alignment.methods.dpo import Dpo
from training.alignment.methods.draft import Draft
from training.alignment.methods.kto import Kto
from training.alignment.methods.method import Chance, Method, Remembers
from training.alignment.methods.nft import Nft
from training.alignment.methods.real import Real
from training.alignment.methods.reward_gradient import RewardGradient
from training.alignment.methods.reward_weighted import RewardWeighted
from training.alignment.pool import Pool, rated_pool
from training.alignment.student import Student
from training.alignment.watch import Watch
from training.inputs import Rated, load_pairs, load_rated
from training.session import Session
from training.team import Team
from vouch.errors import FailedPrecondition
from vouch.recipes import Alignment

METHODS: dict[str, Callable[[Student, Pool, Alignment], Method]] = {
    "reward_gradient": RewardGradient,
    "reward_weighted": RewardWeighted,
    "kto": Kto,
    "dpo": Dpo,
    "nft": Nft,
    "awm": Awm,
    "draft": Draft,
    "ddpo": Ddpo,
    "real": Real,
}


class AlignConfig(Alignment):
    """One alignment."""

    out: Path
    base: Path
    """The diffusers folder that the LoRA belongs to."""
    parent: Path | None = None
    """A LoRA folder upon `base` to go on from."""
    reward: Path


def fit(config: AlignConfig, session: Session) -> dict[str, float]:
    """Trains the LoRA and saves it, as it was when the validation reward was best, in `config.out` in diffusers' own
    layout.

    Raises:
        FailedPrecondition: no rated images that a generator drew, or too few for the method.
        InvalidInput: a base whose prediction or pipeline is not understood.
    """
    torch.set_num_threads(config.threads)
    torch.manual_seed(config.seed)
    rated = _drawn(session.folder)
    student = Student(
        config.base, config.parent, config.reward, config.rank,
        text_encoder=config.text_encoder, device=session.device,
    )  # fmt: skip
    pool = rated_pool(student, rated, config.caution, load_pairs(session.folder))
    own = config.model_copy(update={"batch": session.team.share(config.batch)})
    method, watch = METHODS[config.method](student, pool, own), Watch(student, pool, config)
    steps, seconds, last = train(student, method, watch, config, session)
    if not session.team.leads:
        return {}
    watch.restore()
    student.save(config.out)
    figures = {
        "train_seconds": seconds,
        "forward_passes": float(student.passes.forward),
        "backward_passes": float(student.passes.backward),
        "loss": last,
        "rated_images": float(len(rated)),
        "reward_of_pool": float(pool.rewards.mean()),
        "steps": float(steps),
        **watch.figures(),
    }
    session.note("figures.json", figures)
    return figures


def _drawn(folder: Path) -> Rated:
    """The rated images, but for real ones: methods take what they learn from for the generator's own."""
    rated = load_rated(folder)
    drawn = rated.drawn() if rated else None
    if not drawn:
        real = "all that were rated are real" if rated else "there are none"
        raise FailedPrecondition(
            f"Alignment learns from rated images that a generator drew, and {real}. Draw some "
            "(`vouch generate`) and rate them (`vouch rate`).",
            "NO_RATINGS",
        )
    return drawn


def train(
    student: Student, method: Method, watch: Watch, config: AlignConfig, session: Session, told: str = ""
) -> tuple[int, float, float]:
    """Trains the student by any method, watched; steps and seconds over all attempts, and the last loss. told: what
    progress says of it; default: the method's name."""
    optimizer = torch.optim.AdamW(student.trained, lr=config.lr, betas=(0.9, 0.99), weight_decay=0.0)
    step, seconds = _resume(student, optimizer, method, watch, session.folder / "lora")
    team = session.team
    team.align(student.trained)
    started, loss = time.monotonic(), 0.0

    def spent() -> float:
        return seconds + time.monotonic() - started

    def over() -> bool:
        late = config.minutes is not None and spent() >= 60 * config.minutes
        return bool(team.agree(step >= config.steps or late or watch.stop))

    def look() -> None:
        if team.leads and watch.due(step):
            watch.look(step)

    if not watch.looks:
        look()
    while not over():
        step += 1
        loss = _step(student, method, optimizer, config, step, team)
        session.report(step, config.steps, told or config.method.replace("_", " "), loss=loss)
        look()
        if team.leads and step % config.checkpoint_every == 0:
            _save(student, optimizer, method, watch, session.folder / "lora", step, spent())
    if team.leads and watch.looks and watch.looks[-1].step < step:
        watch.look(step)
    session.report(config.steps, config.steps, "done", loss=loss)
    return step, spent(), loss


def _step(
    student: Student,
    method: Method,
    optimizer: torch.optim.Optimizer,
    config: AlignConfig,
    step: int,
    team: Team,
) -> float:
    for group in optimizer.param_groups:
        group["lr"] = config.lr * min(1.0, step / 10)
    loss = method.loss(Chance.of(team.seed(config.seed), step))
    optimizer.zero_grad(set_to_none=True)
    loss.backward()
    team.average(student.trained)
    torch.nn.utils.clip_grad_norm_(student.trained, 1.0)
    optimizer.step()
    return float(loss.detach())


def _save(
    student: Student,
    optimizer: torch.optim.Optimizer,
    method: Method,
    watch: Watch,
    folder: Path,
    step: int,
    seconds: float,
) -> None:
    state = {
        "lora": list(student.trained),
        "optimizer": optimizer.state_dict(),
        "method": method.state() if isinstance(method, Remembers) else {},
        "watch": watch.state(),
        "passes": [student.passes.forward, student.passes.backward],
        "seconds": seconds,
    }
    checkpoint.save(folder, step, state)


def _resume(
    student: Student, optimizer: torch.optim.Optimizer, method: Method, watch: Watch, folder: Path
) -> tuple[int, float]:
    found = checkpoint.load_latest(folder)
    if found is None:
        return 0, 0.0
    step, state = found
    checkpoint.restore(student.trained, state["lora"])
    optimizer.load_state_dict(state["optimizer"])
    if isinstance(method, Remembers):
        method.resume(state["method"])
    watch.resume(state["watch"])
    student.passes.forward, student.passes.backward = state["passes"]
    return step, state["seconds"]
