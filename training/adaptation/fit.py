"""Adaptation: from captioned images to a generator of their domain.

The data are checked first. Then the parts that the recipe names learn to denoise the images' latents; the weights that
are kept are those of the smallest validation loss, on patients apart.
"""

from __future__ import annotations

from pathlib import Path

import torch

from training.adaptation.check import check_data
from training.adaptation.config import AdaptConfig
from training.adaptation.data import CaptionedSet, load_set
from training.adaptation.foundation import Foundation
from training.adaptation.images import ReadOptions
from training.adaptation.latents import ORIENTATIONS, CachedLatents, FreshLatents, LatentSource
from training.adaptation.recipes import TUNINGS
from training.adaptation.trainer import AdaptationTrainer
from training.adaptation.tuning import Tuning
from training.adaptation.validation import ValidationLoss
from training.loop.session import TrainingSession
from training.loop.training_loop import TrainingLoop
from vouch.errors import InvalidInput
from vouch.formats.intensity import IntensityWindow

REPORT_FILE = "data-check.json"


def fit(config: AdaptConfig, session: TrainingSession, data: CaptionedSet | None = None) -> dict[str, float]:
    """Adapts `config.base` and writes what is published into `config.out`.

    data: images in memory, in the place of those of `config.data`; nothing is checked of them.

    Raises:
        InvalidInput: a base that is none, or data with an error of the data check.
    """
    torch.set_num_threads(config.threads)
    torch.manual_seed(config.seed)
    base = Foundation(config.base, config.parent, session.device, config.precision)
    data = checked(config, base.size, session) if data is None else data
    if config.recipe not in TUNINGS:
        raise InvalidInput(f"The recipe {config.recipe} is not there yet; there are {', '.join(TUNINGS)}.")
    tuning = TUNINGS[config.recipe](base, config)
    trainer = prepared(tuning, data, config, session)
    result = TrainingLoop(
        trainer, session, f"adapting ({config.recipe})", session.folder / "adapt",
        config.steps, config.minutes, config.checkpoint_every,
    ).run()  # fmt: skip
    if not session.group.is_rank_zero:
        return {}
    kept = trainer.keep_best()
    tuning.save(config.out)
    figures = {
        "images": float(len(data.of("train"))),
        "validation_images": float(len(trainer.validation or ())),
        "trained_weights": float(sum(weight.numel() for weight in tuning.weights)),
        "steps": float(result.steps),
        "train_seconds": result.seconds,
        **{name: value for name, value in result.metrics.items() if name == "loss"},
        **kept,
    }
    session.note("figures.json", figures)
    return figures


def checked(config: AdaptConfig, size: int, session: TrainingSession) -> CaptionedSet:
    """The images, after the data check found nothing that forbids to learn from them."""
    reading = ReadOptions(
        config.domain, IntensityWindow.parse(config.window) if config.window else None, seed=config.seed
    )
    report = check_data(config.data, reading, size, config.accept)
    session.note(REPORT_FILE, report.as_json())
    report.refuse()
    return load_set(config.data, size, reading, config.fit)


def prepared(
    tuning: Tuning, data: CaptionedSet, config: AdaptConfig, session: TrainingSession
) -> AdaptationTrainer:
    """The trainer with its latents, and its validation where any image validates."""
    teaching, validating = data.of("train"), data.of("val")
    latents = latent_source(tuning.base, teaching.images, config, session)
    validation = None
    if len(validating):
        unseen = FreshLatents(tuning.base, validating.images, False, 1)
        validation = ValidationLoss(tuning, validating, unseen, config.validated, config.seed)
    return AdaptationTrainer(tuning, teaching, latents, validation, config, session)


def latent_source(
    base: Foundation, images: torch.Tensor, config: AdaptConfig, session: TrainingSession
) -> LatentSource:
    """As the settings say: cached, or fresh."""
    variants = config.crops * (ORIENTATIONS if config.symmetric else 1)
    if not config.cache_latents:
        return FreshLatents(base, images, config.symmetric, variants)
    folder: Path = config.cache or session.folder / "latents"
    return CachedLatents(base, images, config.symmetric, variants, folder, session)
