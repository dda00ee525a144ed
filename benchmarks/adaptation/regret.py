"""What is lost by keeping the checkpoint that validates best, and not the one whose drawings are nearest to real."""

from __future__ import annotations

import numpy as np

from benchmarks.adaptation.experiment import Experiment, Figures
from benchmarks.adaptation.ladder import Cell
from training.adaptation.fit import learned
from training.adaptation.foundation import Foundation
from training.adaptation.lessons import drawn_prior, prepared
from training.adaptation.recipes import TUNINGS
from training.evaluation.distance import kid

POINTS = 10
"""Checkpoints whose drawings are measured."""
LEAST = 1e-6
"""In the place of a KID below it: the estimate is unbiased, and so may be negative."""


def regret(experiment: Experiment, cell: Cell) -> Figures:
    """KID of the kept checkpoint ÷ the least KID of all that were drawn from, the kept one among them."""
    folder = experiment.options.work / "regret" / cell.name
    config = experiment.config_of(cell, folder, experiment.rate(cell))
    config = config.model_copy(update={"sheet_every": max(1, config.steps // POINTS), "copy_guard": False})
    data, session = experiment.data.few(cell.images, cell.seed), experiment.session(folder)
    base = experiment.foundation(config)
    prior = drawn_prior(base, config, session)
    tuning = TUNINGS[config.recipe](base, config)
    trainer, drawn = prepared(tuning, data, prior, config, session), {}

    def measured(step: int) -> float:
        drawn[step] = _kid(experiment, base, tuning.worded)
        return 0.0

    trainer.sheet = measured  # called with the averaged weights in place
    figures = learned(trainer, data, config, session)
    kept = _kid(experiment, base, tuning.worded)
    return {
        "best_checkpoint_regret": ratio(kept, [*drawn.values(), kept]),
        "kept_step": figures.get("best_step"),
        **{f"kid_{step}": value for step, value in drawn.items()},
    }


def ratio(kept: float, every: list[float]) -> float:
    """The kept KID ÷ the least; 1 where nothing was lost."""
    return max(kept, LEAST) / max(min(every), LEAST)


def _kid(experiment: Experiment, base: Foundation, say: object) -> float:
    """Of drawings of the wordings that taught, in the features of the first judge."""
    judge, asked = experiment.judges[0], [one for one in experiment.asked() if one.kind == "trained"]
    images = experiment.drawn(base.generator, [say(one.text) for one in asked])  # type: ignore[operator]
    features = [judge.see(np.asarray(some))[1] for some in (experiment.real["test"].arrays, images)]
    return kid(*features).value
