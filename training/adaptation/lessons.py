"""What an adaptation learns from: checked images, their latents, what is to be kept, and what validates."""

from __future__ import annotations

import logging
from pathlib import Path

import numpy as np
import torch

from training.adaptation.check import LEAST_UNSEEN, check_data
from training.adaptation.config import AdaptConfig
from training.adaptation.data import CaptionedSet, load_set
from training.adaptation.foundation import Foundation
from training.adaptation.images import ReadOptions
from training.adaptation.latents import ORIENTATIONS, CachedLatents, FreshLatents, LatentSource
from training.adaptation.prior import PriorImages, draw_prior, prior_prompts
from training.adaptation.sheet import SheetDrawer
from training.adaptation.trainer import AdaptationLesson, AdaptationTrainer
from training.adaptation.tuning import Tuning
from training.adaptation.validation import ValidationLoss
from training.evaluation.copies import CopyAlarm
from training.loop.session import TrainingSession
from vouch.formats.intensity import IntensityWindow

log = logging.getLogger("vouch.training")

REPORT_FILE = "data-check.json"


def checked(config: AdaptConfig, size: int, session: TrainingSession) -> CaptionedSet:
    """The images, after the data check found nothing that forbids to learn from them."""
    reading = ReadOptions(config.domain, IntensityWindow.parse(config.window) if config.window else None)
    report = check_data(config.data, reading, size, config.accept)
    session.note(REPORT_FILE, report.as_json())
    report.refuse()
    return load_set(config.data, size, reading, config.fit)


def drawn_prior(base: Foundation, config: AdaptConfig, session: TrainingSession) -> PriorImages | None:
    """What the base draws before it learns, where it is to be kept, or where its words change and somebody knows any of
    them."""
    knows_words = bool(config.prior.prompts or base.vocabulary)
    if not config.prior.weight and not (config.recipe == "unet-text" and knows_words):
        if config.recipe == "unet-text":
            log.warning(
                "Nobody says what the base knows (--prior.prompts), so its forgetting is not measured."
            )
        return None
    prompts = prior_prompts(base, config)
    images = draw_prior(base, prompts, session)
    own = config.model_copy(update={"symmetric": False, "crops": 1})
    return PriorImages(latent_source(base, images, own, session), prompts)


def prepared(
    tuning: Tuning,
    data: CaptionedSet,
    prior: PriorImages | None,
    config: AdaptConfig,
    session: TrainingSession,
) -> AdaptationTrainer:
    """The trainer with its latents, and its validation where any image validates."""
    teaching, validating = data.of("train"), data.of("val")
    tuning.check_captions(caption for captions in teaching.captions for caption in captions)
    latents = latent_source(tuning.base, teaching.images, config, session)
    validation = None
    if len(validating):
        unseen = FreshLatents(tuning.base, validating.images, False, 1)
        validation = ValidationLoss(tuning, validating, unseen, config.validated, config.seed)
    lesson = AdaptationLesson(teaching, latents, prior, validation)
    sheet = SheetDrawer(tuning, teaching, copy_alarm(data, config), config.seed, session)
    return AdaptationTrainer(tuning, lesson, config, session, sheet)


def copy_alarm(data: CaptionedSet, config: AdaptConfig) -> CopyAlarm | None:
    """Goes off for near copies of training images; None where it is not wanted, or too few images are unseen."""
    unseen = data.of("val")
    if not config.copy_guard:
        return None
    if len(unseen) < LEAST_UNSEEN:
        log.warning(
            "Nothing looks for copies of training images: %d images validate, and %d are needed.",
            len(unseen),
            LEAST_UNSEEN,
        )
        return None
    return CopyAlarm.calibrated(_arrays(data.of("train").images), _arrays(unseen.images), config.symmetric)


def latent_source(
    base: Foundation, images: torch.Tensor, config: AdaptConfig, session: TrainingSession
) -> LatentSource:
    """As the settings say: cached, or fresh."""
    variants = config.crops * (ORIENTATIONS if config.symmetric else 1)
    if not config.cache_latents:
        return FreshLatents(base, images, config.symmetric, variants)
    folder: Path = config.cache or session.folder / "latents"
    return CachedLatents(base, images, config.symmetric, variants, folder, session)


def _arrays(images: torch.Tensor) -> np.ndarray:
    return images.permute(0, 2, 3, 1).contiguous().numpy()
