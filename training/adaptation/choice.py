"""Which recipe and rank: each candidate gets a share of the time, and the one that validates best goes on.

One round of successive halving (Jamieson & Talwalkar 2016, arXiv 1502.07943). Candidates are LoRA, for a version has to
be of one form whichever wins.
"""

from __future__ import annotations

import json
import logging
import shutil
from pathlib import Path
from typing import Any

from training.adaptation.config import AdaptConfig
from training.adaptation.data import CaptionedSet
from training.adaptation.forecast import check_memory
from training.adaptation.foundation import Foundation
from training.adaptation.lessons import drawn_prior, prepared
from training.adaptation.recipes import TUNINGS
from training.adaptation.tuning import Tuning
from training.loop.session import TrainingSession
from training.loop.training_loop import TrainingLoop
from training.loop.worker_group import WorkerGroup
from vouch.errors import Exhausted

log = logging.getLogger("vouch.training")

CANDIDATES: tuple[tuple[str, int], ...] = (("unet", 4), ("unet", 16), ("unet", 64), ("unet-text", 16))
SHARE = 0.08
"""Of the time, that each candidate gets."""
CHOICE_FILE = "choice.json"


def chosen(
    base: Foundation, data: CaptionedSet, config: AdaptConfig, session: TrainingSession, folder: Path
) -> AdaptConfig:
    """The settings with the recipe and rank of the smallest validation loss, and with the time that is left. The
    winner's checkpoints are in `folder` afterwards, so that it goes on from them.

    Without an image that validates there is nothing to choose by: the defaults.

    Raises:
        Exhausted: no candidate fits into memory.
    """
    assert config.minutes is not None
    if not len(data.of("val")):
        log.warning("No image validates, so recipe and rank are the defaults.")
        return config
    note = session.folder / CHOICE_FILE
    if not session.group.broadcast_scalar(note.is_file()):
        losses = _losses(base, data, config, session)
        session.note(
            CHOICE_FILE, {"validation_losses": losses, "chosen": min(losses, key=lambda name: losses[name])}
        )
        session.group.broadcast_scalar(True)
    best = str(json.loads(note.read_text())["chosen"])
    tried = session.folder / "choice" / best
    if session.group.is_rank_zero and tried.is_dir() and not folder.is_dir():
        shutil.move(tried, folder)
    recipe, _, rank = best.rpartition("-")
    left = config.minutes * (1 - SHARE * (len(CANDIDATES) - 1))
    return config.model_copy(
        update={**_unlimited(config), "recipe": recipe, "rank": int(rank), "minutes": left}
    )


def _losses(
    base: Foundation, data: CaptionedSet, config: AdaptConfig, session: TrainingSession
) -> dict[str, float]:
    """The best validation loss of each candidate that fits into the memory of every worker."""
    losses: dict[str, float] = {}
    for recipe, rank in CANDIDATES:
        own = _candidate(config, recipe, rank)
        tuning = TUNINGS[recipe](base, own)
        refusal = _refusal(tuning, own, session.group)
        if session.group.any(refusal is not None):
            refusal = refusal or Exhausted("Another worker has too little memory for it.", "NO_MEMORY")
            log.warning("Recipe %s of rank %d is not tried. %s", recipe, rank, refusal.message)
        else:
            losses[f"{recipe}-{rank}"] = _tried(tuning, data, own, session)
        base.pipe.unload_lora_weights()
    if not losses:
        assert refusal is not None
        raise refusal
    return losses


def _candidate(config: AdaptConfig, recipe: str, rank: int) -> AdaptConfig:
    assert config.minutes is not None
    own = {"recipe": recipe, "rank": rank, "minutes": config.minutes * SHARE, "cooldown": 0.0}
    return config.model_copy(update={**_unlimited(config), **own})


def _refusal(tuning: Tuning, config: AdaptConfig, group: WorkerGroup) -> Exhausted | None:
    """Why it does not fit into this worker's memory; None where it does."""
    try:
        check_memory(tuning.base, sum(weight.numel() for weight in tuning.weights), config, group)
    except Exhausted as error:
        return error
    return None


def _tried(tuning: Tuning, data: CaptionedSet, config: AdaptConfig, session: TrainingSession) -> float:
    """The best validation loss of one candidate after its share of the time."""
    name = f"{config.recipe}-{config.rank}"
    prior = drawn_prior(tuning.base, config, session) if config.prior.weight else None
    trainer = prepared(tuning, data, prior, config, session)
    TrainingLoop(
        trainer, session.phase(name), f"trying {config.recipe}, rank {config.rank}", session.folder / "choice" / name,
        config.steps, config.minutes, config.checkpoint_every,
    ).run()  # fmt: skip
    return float(session.group.broadcast_scalar(trainer.best.get("loss", float("inf"))))


def _unlimited(config: AdaptConfig) -> dict[str, Any]:
    """Time alone limits it, unless steps are given."""
    return {} if "steps" in config.model_fields_set else {"steps": 10_000_000}
