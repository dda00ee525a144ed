"""Whether an adaptation remembers single images: some are planted among what it learns from, others held out.

An image's score is how much better the model denoises it than the base does, at the same noise. `auc` is how often a
planted one scores above a held-out one: 0.5 where nothing is remembered. A run that is over-trained on purpose, on few
images and without validation, shows that the measure can see it.
"""

from __future__ import annotations

import random
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from sklearn.metrics import roc_auc_score

from benchmarks.adaptation.experiment import Experiment, Figures
from benchmarks.adaptation.ladder import Cell
from benchmarks.adaptation.sets import joined
from training.adaptation.data import CaptionedSet
from training.adaptation.fit import learned
from training.adaptation.latents import FreshLatents
from training.adaptation.lessons import drawn_prior, prepared
from training.adaptation.recipes import TUNINGS
from training.adaptation.splits import Split
from training.adaptation.tuning import Tuning
from training.objectives import denoising
from training.randomness import tensors

PLANTED = 20
LEVELS = 10
"""Timesteps at which an image's error is measured, spread over the schedule."""
OVERTRAINED: Mapping[str, object] = {"prior": {"weight": 0.0}, "ema": 0.0}


def canaries(experiment: Experiment, cell: Cell, overtrain: int) -> Figures:
    """Exposure of the recipe as it ships, and of a run on the planted images alone of `overtrain` steps."""
    planted, held_out = chosen(experiment.data.images("test"))
    shipped = joined(experiment.data.few(cell.images, cell.seed), planted)
    figures = {"canary_auc": _exposure(experiment, cell, shipped, planted, held_out, {})}
    further = {"steps": overtrain, "sheet_every": overtrain, **OVERTRAINED}
    figures["canary_auc_overtrained"] = _exposure(experiment, cell, planted, planted, held_out, further)
    return dict(figures)


def chosen(images: CaptionedSet, count: int = PLANTED) -> tuple[CaptionedSet, CaptionedSet]:
    """Images to plant, which become training images, and as many that nobody learns from; of different patients."""
    rows = list(range(len(images)))
    random.Random("canaries").shuffle(rows)
    first = {images.groups[row]: row for row in reversed(rows)}
    unique = [row for row in rows if first[images.groups[row]] == row][: 2 * count]
    planted = images.subset(unique[: len(unique) // 2])
    teaching: tuple[Split, ...] = tuple("train" for _ in planted.keys)
    return replace(planted, splits=teaching), images.subset(unique[len(unique) // 2 :])


def auc(planted: np.ndarray, held_out: np.ndarray) -> float:
    """How often a score [N] of planted images is above one [M] of held-out ones; ties count half."""
    is_planted = np.concatenate([np.ones(len(planted)), np.zeros(len(held_out))])
    return float(roc_auc_score(is_planted, np.concatenate([planted, held_out])))


@torch.no_grad()
def errors(tuning: Tuning, images: CaptionedSet) -> np.ndarray:
    """The denoising error [N] of each image, the mean over LEVELS; timesteps and noise are the same for all."""
    base, random_ = tuning.base, tensors(0, "canaries")
    rows = list(range(len(images)))
    clean = FreshLatents(base, images.images, False, 1).clean(rows, [0] * len(rows), random_)
    captions = [tuning.worded(said[0]) for said in images.captions]
    found = []
    for level in ((torch.arange(LEVELS) + 0.5) / LEVELS * len(base.alphas)).long():
        noise = torch.randn(clean[:1].shape, generator=random_).expand_as(clean)
        timesteps = level.expand(len(rows))
        x = denoising.noised(clean, noise, base.alphas, timesteps)
        wanted = denoising.target(base.prediction, clean, noise, base.alphas, timesteps)
        said = tuning.predict(x.to(base.device), timesteps, captions).cpu()
        found.append(denoising.per_sample_error(said, wanted))
    errors_: np.ndarray = torch.stack(found).mean(0).numpy()
    return errors_


def _exposure(
    experiment: Experiment,
    cell: Cell,
    data: CaptionedSet,
    planted: CaptionedSet,
    held_out: CaptionedSet,
    further: Mapping[str, object],
) -> float:
    folder = Path(
        experiment.options.work / "canaries" / cell.name / ("overtrained" if further else "shipped")
    )
    config = experiment.config_of(cell, folder, experiment.rate(cell)).model_copy(
        update={"copy_guard": False}
    )
    if further:
        config = type(config).model_validate({**config.model_dump(exclude_unset=True), **further})
    session, base = experiment.session(folder), experiment.foundation(config)
    prior = drawn_prior(base, config, session)
    tuning = TUNINGS[config.recipe](base, config)
    before = [errors(tuning, some) for some in (planted, held_out)]
    trainer = prepared(tuning, data, prior, config, session)
    learned(trainer, data, config, session)
    after = [errors(tuning, some) for some in (planted, held_out)]
    return auc(before[0] - after[0], before[1] - after[1])
