"""Feedback from the tenth image on: what fifty verdicts add to ten images, at equal compute.

Both sides begin with the same training on ten images, for half of the U-Net passes. One goes on with them alone. The
other draws fifty images first, has a simulated rater judge them, and goes on with the ten images and the drawings that
were found plausible: reward weighting (Lee et al. 2023, arXiv 2302.12192) with the verdict itself as the reward. The
passes of the drawing are taken from its training. A judge of other patients, which neither taught nor chose, compares.
"""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

import numpy as np
import torch

from benchmarks.adaptation.captions import Prompt
from benchmarks.adaptation.experiment import Experiment, Figures, in_turn
from benchmarks.adaptation.ladder import Cell, passes_of, steps_of
from benchmarks.adaptation.sets import joined
from training.adaptation.config import AdaptConfig
from training.adaptation.data import CaptionedSet
from training.adaptation.splits import Split
from training.evaluation.judge import Judge
from training.raters.plausibility import Plausibility
from training.raters.simulated import SimulatedPathologist
from vouch.errors import InvalidInput
from vouch.models.pipelines import Generator

IMAGES, VERDICTS = 10, 50
RATED_SEED, JUDGED_SEED = 500_000, 600_000
RATER = "simulated-1"
GUIDED = 2
"""U-Net passes of a denoising step: with the prompt, and without."""


def ratings(experiment: Experiment, recipe: str, seed: int, models: Path) -> Figures:
    """Plausible share and coverage of both sides, once for a recipe and seed. models: folder with `rater` and `judge`.

    Raises:
        InvalidInput: a model is missing.
    """
    name = f"ratings/{experiment.ladder}/{recipe}/{IMAGES}/{seed}"
    if name not in experiment.results:
        experiment.note(name, _measured(experiment, Cell(experiment.ladder, recipe, 0, seed), models, name))
    return experiment.results[name]


def _measured(experiment: Experiment, cell: Cell, models: Path, name: str) -> Figures:
    for part in ("rater", "judge"):
        if not (models / part).is_dir():
            raise InvalidInput(
                f"{models} lacks {part}. `python -m training models --data FOLDER --base FOLDER --out {models} "
                "--part rater --part judge` makes both."
            )
    folder, data = experiment.options.work / name, experiment.data.taught(IMAGES, cell.seed)
    passes = experiment.options.passes or passes_of(IMAGES // len(experiment.data.labels))
    half, rest = passes // 2, passes - passes // 2
    first = _adapted(experiment, cell, folder / "first", half, data)
    drawn = _drawings(experiment, cell, first, VERDICTS, RATED_SEED + 1000 * cell.seed)
    rater = SimulatedPathologist(Plausibility.load(models / "rater"), RATER, experiment.data.domain)
    accepted = plausible(drawn, rater)
    drawing = VERDICTS * experiment.options.steps * GUIDED
    taught = {"alone": (data, rest), "rated": (joined(accepted, data), rest - drawing)}
    judge, figures = Judge.load(models / "judge"), {"accepted": float(len(accepted)), "passes": float(passes)}
    for side, (images, left) in taught.items():
        version = _adapted(experiment, cell, folder / side, left, images, first)
        figures |= {
            f"{what}_{side}": value for what, value in _judged(experiment, cell, version, judge).items()
        }
    return dict(figures)


def _adapted(
    experiment: Experiment,
    cell: Cell,
    folder: Path,
    passes: int,
    data: CaptionedSet,
    begin: Path | None = None,
) -> Path:
    """The folder of the version. begin: a version to go on from; None: the base."""
    config = experiment.config_of(cell, folder, experiment.rate(cell))
    steps = steps_of(passes, config.batch)
    own = config.model_dump(exclude_unset=True)
    own.pop("prior", None)  # what the base knew is not asked of either side
    places: dict[str, Any] = {}
    if begin is not None:
        is_whole = (begin / "model_index.json").is_file()
        places = {"base": begin} if is_whole else {"parent": begin}
    spent = {"steps": steps, "validate_every": max(1, steps // 10), "sheet_every": steps}
    experiment.adapted(AdaptConfig.model_validate({**own, **spent, **places}), folder, data)
    return folder / "version"


def _drawings(
    experiment: Experiment, cell: Cell, version: Path, count: int, first_seed: int
) -> tuple[np.ndarray, list[Prompt]]:
    """Images uint8 [N, H, W, 3] of the wordings that taught, each label as often."""
    prompts = in_turn([one for one in experiment.data.prompts() if one.kind == "trained"], count)
    generator: Generator = experiment.loaded(version)
    say = experiment.reading(cell)
    return experiment.drawn(generator, [say(one.text) for one in prompts], first_seed), prompts


def plausible(drawn: tuple[np.ndarray, list[Prompt]], rater: SimulatedPathologist) -> CaptionedSet:
    """The drawings that a rater finds plausible, as images that teach, each with the prompt that it was drawn of."""
    images, prompts = drawn
    digests = [hashlib.sha256(np.ascontiguousarray(image)).hexdigest() for image in images]
    opinions = rater.rate(images, [one.label for one in prompts], digests)
    rows = [row for row, opinion in enumerate(opinions) if opinion.verdict == "plausible"]
    teaching: tuple[Split, ...] = ("train",) * len(rows)
    return CaptionedSet(
        torch.from_numpy(images[rows]).permute(0, 3, 1, 2).contiguous(),
        tuple((prompts[row].text,) for row in rows),
        tuple(prompts[row].label for row in rows),
        tuple(f"drawn {row}" for row in rows),
        teaching,
        tuple(f"drawn/{row}" for row in rows),
        tuple(digests[row] for row in rows),
    )


def _judged(experiment: Experiment, cell: Cell, version: Path, judge: Judge) -> Figures:
    images, prompts = _drawings(experiment, cell, version, experiment.options.drawn, JUDGED_SEED)
    summary = judge.measure(images, [one.label for one in prompts])
    return {"plausible": summary.plausible.value, "coverage": summary.coverage.value}
