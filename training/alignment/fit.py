"""Alignment: a LoRA that draws what the experts find plausible, without forgetting what its parent knew.

One loop for all methods: each makes one step's loss (`training/alignment/methods`), and all are watched alike.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import torch

from training.alignment.config import AlignConfig
from training.alignment.methods.awm import Awm
from training.alignment.methods.ddpo import Ddpo
from training.alignment.methods.dpo import Dpo
from training.alignment.methods.draft import Draft
from training.alignment.methods.kto import Kto
from training.alignment.methods.method import Method
from training.alignment.methods.nft import Nft
from training.alignment.methods.real import Real
from training.alignment.methods.reward_gradient import RewardGradient
from training.alignment.methods.reward_weighted import RewardWeighted
from training.alignment.pool import Pool, rated_pool
from training.alignment.student import Student
from training.alignment.trainer import train
from training.alignment.validation_monitor import ValidationMonitor
from training.inputs.pairs import load_pairs
from training.inputs.rated import Rated, load_rated
from training.loop.session import TrainingSession
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


def fit(config: AlignConfig, session: TrainingSession) -> dict[str, float]:
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
    pool = rated_pool(student, rated, config.std_penalty, load_pairs(session.folder))
    own = config.model_copy(update={"batch": session.group.batch_share(config.batch)})
    method, monitor = METHODS[config.method](student, pool, own), ValidationMonitor(student, pool, config)
    result = train(student, method, monitor, config, session)
    if not session.group.is_rank_zero:
        return {}
    monitor.restore()
    monitor.save_sheet(session)
    student.save(config.out)
    figures = {
        "train_seconds": result.seconds,
        "forward_passes": float(student.passes.forward),
        "backward_passes": float(student.passes.backward),
        "loss": result.metrics.get("loss", 0.0),
        "rated_images": float(len(rated)),
        "reward_of_pool": float(pool.rewards.mean()),
        "steps": float(result.steps),
        **monitor.figures(),
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
