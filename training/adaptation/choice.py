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
from training.loop.session import TrainingSession
from training.loop.training_loop import TrainingLoop

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
    """
    assert config.minutes is not None
    if not len(data.of("val")):
        log.warning("No image validates, so recipe and rank are the defaults.")
        return config
    note = session.folder / CHOICE_FILE
    if not session.group.broadcast_scalar(note.is_file()):
        losses = {
            f"{recipe}-{rank}": _tried(base, data, config, session, recipe, rank)
            for recipe, rank in CANDIDATES
        }
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


def _tried(
    base: Foundation,
    data: CaptionedSet,
    config: AdaptConfig,
    session: TrainingSession,
    recipe: str,
    rank: int,
) -> float:
    """The best validation loss of one candidate after its share of the time."""
    assert config.minutes is not None
    own = config.model_copy(
        update={
            **_unlimited(config),
            "recipe": recipe,
            "rank": rank,
            "minutes": config.minutes * SHARE,
            "cooldown": 0.0,
        }
    )
    tuning = TUNINGS[recipe](base, own)
    check_memory(base, sum(weight.numel() for weight in tuning.weights), own)
    trainer = prepared(
        tuning, data, None if not own.prior.weight else drawn_prior(base, own, session), own, session
    )
    TrainingLoop(
        trainer, session.phase(f"{recipe}-{rank}"), f"trying {recipe}, rank {rank}",
        session.folder / "choice" / f"{recipe}-{rank}", own.steps, own.minutes, own.checkpoint_every,
    ).run()  # fmt: skip
    base.pipe.unload_lora_weights()
    return float(session.group.broadcast_scalar(trainer.best.get("loss", float("inf"))))


def _unlimited(config: AdaptConfig) -> dict[str, Any]:
    """Time alone limits it, unless steps are given."""
    return {} if "steps" in config.model_fields_set else {"steps": 10_000_000}
