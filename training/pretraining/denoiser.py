"""Text encoder and U-Net: trained together on latents, averaged, and kept where they predict held-out images best."""

from __future__ import annotations

from typing import Any

import torch

from training.evaluation.copies import CopyAlarm
from training.loop.session import TrainingSession
from training.loop.training_loop import TrainingLoop
from training.pretraining.captioned import Captioned
from training.pretraining.config import PretrainConfig
from training.pretraining.denoiser_trainer import DenoiserTrainer
from training.pretraining.held_out_loss import HeldOutLoss
from training.pretraining.networks import Networks
from vouch.models.pipelines import GUIDE_FOLDER


def fit_denoiser(
    config: PretrainConfig,
    networks: Networks,
    train: tuple[Captioned, torch.Tensor],
    held_out: tuple[Captioned, torch.Tensor] | None,
    session: TrainingSession,
) -> dict[str, Any]:
    """Trains `networks.trained`, resuming from the session's folder, and leaves the best averaged weights in them.

    Args:
        train, held_out: images with their latents [views, N, C, h, w]. Held-out images choose the length of the
            average and the step; without them the first length and the last step are kept.
    """
    validation = alarm = None
    if held_out:
        validation = HeldOutLoss(config, networks, *held_out)
        alarm = CopyAlarm.calibrated(train[0].arrays, held_out[0].arrays, config.symmetric)
    trainer = DenoiserTrainer(config, networks, *train, session, validation, alarm)
    result = TrainingLoop(
        trainer,
        session,
        "U-Net",
        session.folder / "unet",
        config.steps,
        config.minutes,
        config.checkpoint_every,
    ).run()
    figures = {
        "unet_seconds": result.seconds,
        "unet_steps": result.steps,
        "unet_loss": result.metrics["loss"],
    }
    if trainer.guide and session.group.is_rank_zero:
        networks.save_guide(trainer.guide, config.out / GUIDE_FOLDER)
    return figures | trainer.keep_best()
