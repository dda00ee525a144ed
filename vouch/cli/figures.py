"""The figures of a training run for people: few, named in words, with units."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

from rich.table import Table

from vouch.cli import render

MOST = 10
"""Maximum rows of the table."""


class Shown(NamedTuple):
    """How a figure is shown: its name in words, its unit, its decimals, and the factor of its value."""

    words: str
    unit: str = ""
    decimals: int = 0
    factor: float = 1.0


def _share(words: str) -> Shown:
    return Shown(words, "%", 1, 100.0)


_MINUTES = Shown("training time", "min", 1, 1 / 60)
FIGURES: Mapping[str, Mapping[str, Shown]] = {
    "pretrain": {
        "images": Shown("training images"),
        "vae_steps": Shown("autoencoder steps"),
        "vae_seconds": Shown("autoencoder training time", "min", 1, 1 / 60),
        "vae_train_error_255": Shown("autoencoder's mean absolute error", "of 255 grey values", 2),
        "unet_steps": Shown("U-Net steps"),
        "unet_seconds": Shown("U-Net training time", "min", 1, 1 / 60),
        "unet_loss": Shown("U-Net training loss of the last step", "", 4),
        "unet_best_loss": Shown("U-Net held-out loss of the kept weights", "", 4),
        "unet_best_step": Shown("step of the kept weights"),
        "unet_best_decay": Shown("decay of the kept average", "", 4),
    },
    "reward": {
        "ratings_learned": Shown("rated images trained on"),
        "held_out": Shown("rated images held out"),
        "auroc": Shown("AUROC of plausible", "", 3),
        "auroc_low": Shown("AUROC, lower 95 % limit", "", 3),
        "auroc_high": Shown("AUROC, upper 95 % limit", "", 3),
        "ece": Shown("expected calibration error", "", 3),
        "ece_of_perfect": Shown("expected calibration error if perfectly calibrated", "", 3),
        "temperature": Shown("calibration temperature", "", 2),
        "lapse": _share("lapse rate of raters"),
        "train_seconds": _MINUTES,
    },
    "align": {
        "rated_images": Shown("rated images trained on"),
        "steps": Shown("optimizer steps"),
        "best_step": Shown("step of the kept weights"),
        "validation_reward_before": _share("validation reward of the parent"),
        "validation_reward": _share("validation reward of the kept weights"),
        "drift": Shown("drift of brightness, contrast or colour", "standard deviations", 2),
        "variety": _share("variety within a class, relative to the parent"),
        "loss": Shown("loss of the last step", "", 4),
        "forward_passes": Shown("images through the U-Net"),
        "train_seconds": _MINUTES,
    },
    "concept": {
        "sub_labels_yes": Shown("images with a positive sub-label"),
        "sub_labels_no": Shown("images with a negative sub-label"),
        "pseudo_labelled_yes": Shown("images pseudo-labelled as the concept"),
        "head_auroc": Shown("AUROC of the head", "", 3),
        "tutor_auroc": Shown("AUROC of the validation classifier", "", 3),
        "forgetting": Shown("distance to the parent on other concepts", "", 4),
        "practice_validation_reward_before": _share("validation reward before reward fine-tuning"),
        "practice_validation_reward": _share("validation reward after reward fine-tuning"),
        "train_seconds": _MINUTES,
        "practice_seconds": Shown("reward fine-tuning time", "min", 1, 1 / 60),
    },
    "adapt": {
        "images": Shown("training images"),
        "best_step": Shown("step of the kept weights"),
        "validation_loss_before": Shown("validation loss of the base", "", 4),
        "validation_loss": Shown("validation loss of the kept weights", "", 4),
        "copies": _share("near copies of training images"),
        "kept_loss_ratio": Shown("denoising error on prior images, after ÷ before", "", 3),
        "vae_psnr": Shown("PSNR of the autoencoder", "dB", 1),
        "vae_features": Shown("feature error of the autoencoder, of the variance", "", 3),
        "rank": Shown("rank of the LoRA; 0: all weights"),
        "train_seconds": _MINUTES,
    },
}
"""By kind of training: the figures shown, in order. The run's record holds all figures."""


def figures_table(kind: str, metrics: Mapping[str, float]) -> Table | None:
    """At most `MOST` rows; the raw names if no figure has words. None without any figure."""
    if not metrics:
        return None
    known = [(shown, metrics[name]) for name, shown in FIGURES.get(kind, {}).items() if name in metrics]
    known = known or [(Shown(name, "", 4), value) for name, value in sorted(metrics.items())]
    rows = [
        (shown.words, f"{shown.factor * value:,.{shown.decimals}f}", shown.unit) for shown, value in known
    ]
    drawn = render.table(("figure", "#value", "unit"), rows[:MOST])
    assert isinstance(drawn, Table)
    return drawn


def image_sheet(folder: Path) -> Path | None:
    """The newest sheet of images in a run's folder; None without one."""
    sheets = [*sorted(folder.glob("grid-*.png")), *folder.glob("images.png")]
    return sheets[-1] if sheets else None
