"""Adaptation: from captioned images to a generator of their domain.

The data and the autoencoder are checked first. Then the parts that the recipe names learn; the weights that are kept
are those of the smallest validation loss, on patients apart.
"""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import nn

from training.adaptation import choice
from training.adaptation.autoencoder import AutoencoderTuner
from training.adaptation.config import AdaptConfig
from training.adaptation.data import CaptionedSet
from training.adaptation.forecast import MemoryForecast, check_memory
from training.adaptation.foundation import Foundation
from training.adaptation.lessons import checked, drawn_prior, prepared
from training.adaptation.peak import PeakMemory
from training.adaptation.prior import Forgetting, draw_prior, prior_prompts
from training.adaptation.recipes import TUNINGS
from training.adaptation.reconstruction import Reconstruction, domain_network
from training.adaptation.tuning import write_defaults
from training.adaptation.unet import save_whole
from training.adaptation.validated import ValidatedTrainer
from training.loop.session import TrainingSession
from training.loop.training_loop import TrainingLoop
from vouch.errors import InvalidInput
from vouch.recipes.effects import UNET

FOLDER = "adapt"
"""In the run's folder: the checkpoints."""
FEWEST_JUDGED = 32
"""Validating images below which all images judge the autoencoder: a mean over fewer depends on which they are."""


def fit(config: AdaptConfig, session: TrainingSession, data: CaptionedSet | None = None) -> dict[str, float]:
    """Adapts `config.base` and writes what is published into `config.out`.

    data: images in memory, in the place of those of `config.data`; nothing is checked of them.

    Raises:
        InvalidInput: a base that is none, or data with an error of the data check.
        FailedPrecondition: an autoencoder that does not know the images.
        Exhausted: it would not fit into memory.
    """
    torch.set_num_threads(config.threads)
    torch.manual_seed(config.seed)
    base = Foundation(config.base, config.parent, session.device, config.precision)
    data = checked(config, base.size, session) if data is None else data
    looked_at = looked_through(data, config)
    looks = domain_network(config.features)
    found = Reconstruction.of(base.pipe.vae, looked_at, looks)
    if config.recipe == "vae":
        figures = tune_autoencoder(base, data, config, session)
        before = {f"{name}_before": value for name, value in found.figures().items()}
        figures |= {**Reconstruction.of(base.pipe.vae, looked_at, looks).figures(), **before}
    else:
        if not config.keep_vae:
            found.refuse()
        if config.is_open:
            config = choice.chosen(base, data, config, session, session.folder / FOLDER)
        figures = {**denoise(base, data, config, session), **found.figures()}
    if not session.group.is_rank_zero:
        return {}
    session.note("figures.json", figures)
    return figures


def looked_through(data: CaptionedSet, config: AdaptConfig) -> torch.Tensor:
    """The images uint8 [N, 3, S, S] that the autoencoder is judged on: those that validate, or all where they are few.

    An autoencoder that is tuned is not judged on what it learned from, however few others there are.
    """
    unseen = data.of("val").images
    enough = 1 if config.recipe == "vae" else FEWEST_JUDGED
    return unseen if len(unseen) >= enough else data.images


def denoise(
    base: Foundation, data: CaptionedSet, config: AdaptConfig, session: TrainingSession
) -> dict[str, float]:
    """Any recipe that learns to denoise latents; what came of it."""
    if config.recipe not in TUNINGS:
        raise InvalidInput(f"The recipe {config.recipe} is not there yet; there are {', '.join(TUNINGS)}.")
    torch.manual_seed(config.seed)  # of the LoRA, whatever was tried before
    kept = drawn_prior(base, config, session)
    tuning = TUNINGS[config.recipe](base, config)
    memory = check_memory(base, _count(tuning.weights), config, session.group)
    peak = PeakMemory(session.device)
    forgetting = Forgetting(tuning, kept, config.seed) if kept else None
    trainer = prepared(tuning, data, kept, config, session)
    figures = learned(trainer, data, config, session) | memory_figures(memory, peak)
    if not session.group.is_rank_zero:
        return {}
    figures |= {"rank": float(config.rank)} if config.recipe in UNET else {}
    figures |= forgetting.figures() if forgetting else {}
    figures |= trainer.drawer.draw(session.folder / "images.png")
    tuning.save(config.out)
    return figures


def tune_autoencoder(
    base: Foundation, data: CaptionedSet, config: AdaptConfig, session: TrainingSession
) -> dict[str, float]:
    """The recipe vae; what came of it."""
    kept = draw_prior(base, prior_prompts(base, config), session) if config.prior.weight else None
    trainer = AutoencoderTuner(base, data, config, session, kept)
    memory = check_memory(base, _count(trainer.parameters), config, session.group)
    peak = PeakMemory(session.device)
    figures = learned(trainer, data, config, session) | memory_figures(memory, peak)
    if session.group.is_rank_zero:
        save_whole(base.pipe, config.out)
        base.pipe.vae.float()
        write_defaults(base.defaults, config.out)
        if base.vocabulary is not None:
            base.vocabulary.save(config.out)
    return figures


def memory_figures(forecast: MemoryForecast, peak: PeakMemory) -> dict[str, float]:
    """What was forecast, and what was taken where somebody counts."""
    taken = peak.taken()
    figures = {"memory_forecast_bytes": float(forecast.total)}
    return figures | ({"memory_taken_bytes": float(taken)} if taken else {})


def learned(
    trainer: ValidatedTrainer, data: CaptionedSet, config: AdaptConfig, session: TrainingSession
) -> dict[str, float]:
    """Runs the loop and leaves the model as it was when it validated best."""
    result = TrainingLoop(
        trainer, session, f"adapting ({config.recipe})", session.folder / FOLDER,
        config.steps, config.minutes, config.checkpoint_every,
    ).run()  # fmt: skip
    return {
        "images": float(len(data.of("train"))),
        "validation_images": float(len(data.of("val"))),
        "trained_weights": float(_count(trainer.parameters)),
        "steps": float(result.steps),
        "train_seconds": result.seconds,
        **{name: value for name, value in result.metrics.items() if name == "loss"},
        **trainer.keep_best(),
    }


def _count(weights: Iterable[nn.Parameter]) -> int:
    return sum(weight.numel() for weight in weights)
