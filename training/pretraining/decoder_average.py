"""Decoders that were trained on from the same weights, averaged (model soups, Wortsman et al. 2022, arXiv 2203.05482).

A stronger adversarial term leaves more of the finest detail, a weaker one less noise. The average lies between them,
and covered more of real cells than either (`docs/explain/pretraining.md`).
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch

from training.evaluation.codec import autoencoder_folder, load_autoencoder
from training.pretraining.decoder import replace

Job = Callable[[str, dict[str, Any], Path], dict[str, Any]]
"""Runs a loop by the name of its kind, with its settings, in a folder; returns its figures."""


def sharpen_and_average(
    job: Job, settings: Mapping[str, Any], weights: Sequence[float], runs: Path
) -> dict[str, Any]:
    """Sharpens a copy of the generator that `settings` name with each adversarial weight, and gives the generator the
    average; figures by weight."""
    generator, copies, figures = Path(settings["generator"]), [], {}
    for weight in weights:
        copy = runs / f"{weight:g}" / "generator"
        if not copy.is_dir():  # of a run that goes on, the decoder stays
            shutil.copytree(generator, copy.with_name("copying"), dirs_exist_ok=True)
            copy.with_name("copying").rename(copy)
        own = {**settings, "generator": str(copy), "adversarial": weight}
        figures[f"{weight:g}"] = job("decoder", own, runs / f"{weight:g}")
        copies.append(copy)
    average(copies, generator)
    return figures


@torch.no_grad()
def average(folders: Sequence[Path], into: Path) -> None:
    """Puts the mean of the autoencoders of these diffusers folders in the place of that of `into`."""
    first, *others = (load_autoencoder(folder) for folder in folders)
    stored = [other.state_dict() for other in others]
    for name, weight in first.state_dict().items():
        weight.copy_(torch.stack([weight, *(state[name] for state in stored)]).mean(0))
    replace(first.to(torch.float16), autoencoder_folder(into))
