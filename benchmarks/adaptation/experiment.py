"""One cell after the other: adapt, draw, measure, note. A second start goes on where the first was cut."""

from __future__ import annotations

import functools
import json
import random
import shutil
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from benchmarks.adaptation.captions import Prompt
from benchmarks.adaptation.judges import CELLS_JUDGE, FindingJudge, judges_of, share_of
from benchmarks.adaptation.ladder import (
    KNOWN_CELLS,
    NEEDS_ENCODER,
    PASSES,
    RATES,
    RECIPES,
    SCRATCH,
    Cell,
    Ladder,
    LadderData,
    settings_of,
)
from benchmarks.adaptation.measures import chroma, logit_distance
from benchmarks.adaptation.sets import Sets
from training.adaptation.config import AdaptConfig
from training.adaptation.data import CaptionedSet
from training.adaptation.fit import fit
from training.adaptation.foundation import Foundation
from training.adaptation.inversion import InversionTuning
from training.adaptation.recipes import TUNINGS
from training.adaptation.unet import save_whole
from training.contact_sheet import contact_sheet
from training.evaluation.copies import CopyAlarm
from training.evaluation.coverage import coverage
from training.evaluation.distance import frechet, kid
from training.loop.progress import TrainingProgress
from training.loop.session import TrainingSession
from training.loop.tracker import NoTracker
from vouch.models.loading import load_pipeline
from vouch.models.networks.attributes import AttributeNet
from vouch.models.pipelines import Generator, load_generator
from vouch.recipes.effects import READ_BY
from vouch.storage.atomic import write_whole

BATCH_DRAWN = 16
BASE = "base"
"""In the place of a recipe: the model that nobody adapted, asked for what it never saw."""

Figures = dict[str, float | None]


@dataclass(frozen=True)
class ExperimentOptions:
    """How large the experiment is. passes, minutes: of each training; passes None: as the ladder says."""

    base: Path
    sets: Sets
    work: Path
    encoder: Path | None = None
    passes: int | None = None
    minutes: float | None = None
    batch: int = 16
    drawn: int = 192
    """Images of each model."""
    steps: int = 20
    guidance: float = 2.0
    judge_steps: int = 600
    probe: bool = True
    validated: int = 64
    search: bool = False
    """Whether the learning rate of each recipe is chosen by validation, on the first seed."""
    settings: Mapping[str, Any] = field(default_factory=dict)
    """Further settings of every training whose recipe reads them."""


class Curves(NoTracker):
    """Keeps validation losses by step."""

    def __init__(self) -> None:
        self.validation: dict[int, float] = {}

    def metrics(self, values: Mapping[str, float], step: int) -> None:
        if "validation_loss" in values:
            self.validation[step] = values["validation_loss"]


class Experiment:
    """The cells of one ladder and their figures, which are kept in ``results.json`` of the work folder."""

    def __init__(self, ladder: Ladder, options: ExperimentOptions) -> None:
        self.ladder, self.options = ladder, options
        self.data = LadderData(ladder, options.sets)
        self._path = options.work / "results.json"

    @property
    def results(self) -> dict[str, Figures]:
        """Figures by the name of the cell."""
        return json.loads(self._path.read_text()) if self._path.is_file() else {}

    @functools.cached_property
    def judges(self) -> list[FindingJudge]:
        work = self.options.work / "judges" / self.ladder
        return judges_of(self.ladder, self.options.sets, work, self.options.judge_steps, self.options.probe)

    @functools.cached_property
    def real(self) -> dict[str, CaptionedSet]:
        """Real images that measure: unseen ones, and others for real against real."""
        test, val = self.data.images("test"), self.data.images("val")
        return {"test": _mixed(test, self.options.drawn), "val": _mixed(val, self.options.drawn)}

    # ---- one cell

    def why_not(self, cell: Cell) -> str:
        """Why a cell cannot be measured here; "" where it can."""
        recipe = settings_of(cell, self.data, 1, 1, None)["recipe"]
        if recipe not in TUNINGS:
            return f"{cell.recipe} is left out: the recipe {recipe} is not there."
        if cell.recipe in NEEDS_ENCODER and self.options.encoder is None:
            return f"{cell.recipe} is left out: name the folder of a text encoder with --encoder."
        return ""

    def measure(self, cell: Cell) -> Figures:
        """The figures of a cell, measured once."""
        if cell.name not in self.results:
            rate = self.rate(cell)
            folder = self.options.work / "cells" / cell.name
            trained, data = self._adapted(cell, folder, rate)
            generator = self._loaded(folder / "version")
            self._note(cell.name, {**trained, **self.looked_at(generator, self._reading(cell), data, folder)})
            shutil.rmtree(folder / "run", ignore_errors=True)
        return self.results[cell.name]

    def measure_base(self) -> Figures:
        """The figures of the model that nobody adapted."""
        name = f"{self.ladder}/{BASE}"
        if name not in self.results:
            folder = self.options.work / "cells" / name
            few = self.data.few(0, 0)
            self._note(
                name, self.looked_at(load_generator(self.options.base), lambda text: text, few, folder)
            )
        return self.results[name]

    def rate(self, cell: Cell) -> float:
        """The learning rate of a cell: its recipe's, or the best of RATES times it by validation loss, at this number
        of images and the first seed. The trainings of the search count for no recipe."""
        usual = float(RECIPES[cell.recipe]["lr"])
        if not self.options.search:
            return usual
        name, first = f"rates/{cell.ladder}/{cell.recipe}/{cell.images or 'all'}", replace(cell, seed=0)
        if name not in self.results:
            losses: Figures = {}
            for factor in RATES:
                folder = self.options.work / name / f"{factor:.2f}"
                losses[str(usual * factor)] = self._adapted(first, folder, usual * factor)[0][
                    "validation_loss"
                ]
                shutil.rmtree(folder)
            self._note(name, losses)
        tried = {float(rate): loss for rate, loss in self.results[name].items() if loss is not None}
        return min(tried, key=tried.__getitem__)

    def config_of(self, cell: Cell, folder: Path, rate: float) -> AdaptConfig:
        """The settings of a cell's training."""
        options = self.options
        passes = options.passes or PASSES[cell.images]
        own = settings_of(cell, self.data, passes, options.batch, str(options.encoder or ""))
        base, rates = options.base, {"lr": rate}
        if cell.recipe == SCRATCH:
            base, rates = _scratch(options, cell.seed), {"lr": rate, "text_lr": rate}
        places = {
            "data": options.sets.data,
            "base": base,
            "out": folder / "version",
            "minutes": options.minutes,
        }
        shared = {
            "validated": options.validated,
            "domain": self.data.domain,
            "cache": options.work / "latents",
            "keep_vae": True,  # what the autoencoder loses counts in every figure; a tuned one is another base
        }
        read = {
            name: value
            for name, value in options.settings.items()
            if own["recipe"] in READ_BY.get(name, (own["recipe"],))
        }
        chosen = _within({**shared, **own, **rates}, read)
        return AdaptConfig(**{**places, **chosen})  # type: ignore[arg-type]

    def _adapted(self, cell: Cell, folder: Path, rate: float) -> tuple[Figures, CaptionedSet]:
        data, curves, started = self.data.few(cell.images, cell.seed), Curves(), time.monotonic()
        session = TrainingSession(folder / "run", _silent, curves)
        figures: Figures = dict(fit(self.config_of(cell, folder, rate), session, data))
        figures |= {"lr": rate}
        figures["seconds"] = time.monotonic() - started
        write_whole(folder / "validation.json", json.dumps(curves.validation).encode())
        return figures, data

    def _loaded(self, version: Path) -> Generator:
        lora = not (version / "model_index.json").is_file()
        return load_generator(version, self.options.base if lora else None)

    def _reading(self, cell: Cell) -> Any:
        """How a prompt is said to this model: with its new words, where it has some."""
        if cell.recipe != "text-inversion":
            return lambda text: text
        own = self.config_of(cell, self.options.work, self.rate(cell))
        return InversionTuning(Foundation(self.options.base), own).worded

    # ---- figures of a model

    def asked(self) -> list[Prompt]:
        """The prompts that every model is asked for."""
        return _dealt(self.data.prompts(), self.options.drawn)

    def looked_at(self, generator: Generator, say: Any, data: CaptionedSet, folder: Path) -> Figures:
        """Draws and measures. data: what it learned from, among them the images that validate."""
        asked = self.asked()
        images = self.drawn(generator, [say(prompt.text) for prompt in asked])
        folder.mkdir(parents=True, exist_ok=True)
        contact_sheet(images[:48], 8, folder / "drawn.png")
        figures: Figures = {"colour_leak": chroma(images), "images_drawn": float(len(images))}
        for judge in self.judges:
            figures |= {
                f"{judge.name}_{name}": value for name, value in self.judged(judge, images, asked).items()
            }
        return {**figures, **self._copies(images, asked, data.of("train")), **self._kept(generator)}

    def judged(self, judge: FindingJudge, images: np.ndarray, asked: Sequence[Prompt]) -> Figures:
        """What a judge says of drawings, and of real images beside."""
        test, val = self.real["test"], self.real["val"]
        (logits, features), (real, seen) = judge.see(images), judge.see(test.arrays)
        wanted, labels = [prompt.label for prompt in asked], self.data.labels
        kinds = {kind: [row for row, one in enumerate(asked) if one.kind == kind] for kind in _kinds(asked)}
        said = {
            f"recognised_{kind.replace(' ', '_')}": share_of(
                labels, [wanted[row] for row in rows], judge, logits[rows]
            )
            for kind, rows in kinds.items()
        }
        trained, on_real = kinds["trained"], share_of(labels, test.labels, judge, real)
        told = [wanted[row] for row in trained]
        other = judge.see(val.arrays)[1]
        findings = [label for label in labels if label != self.data.domain.captions.absent]
        return {
            **said,
            "findings_found": share_of(findings, told, judge, logits[trained]),
            "findings_found_real": share_of(findings, test.labels, judge, real),
            "recognised_real": on_real,
            "finding_agreement_points": 100 * (said["recognised_trained"] - on_real),
            "finding_logit_distance": logit_distance(real, logits[trained], test.labels, told, judge.labels),
            "fid": frechet(seen, features[trained]).value,
            "fid_real": frechet(seen, other).value,
            "kid": kid(seen, features[trained]).value,
            "coverage_of_floor": _of_floor(seen, features[trained], other),
        }

    def _copies(self, images: np.ndarray, asked: Sequence[Prompt], taught: CaptionedSet) -> Figures:
        unseen = self.real["test"].arrays
        alarm = CopyAlarm.calibrated(taught.arrays, unseen, self.data.domain.symmetric)
        copied, judge = alarm.alarmed(images), self.judges[0]
        rows = [row for row in range(len(images)) if not copied[row] and asked[row].kind == "trained"]
        logits, wanted = (
            judge.see(images[rows])[0] if rows else np.zeros((0, 1)),
            [asked[row].label for row in rows],
        )
        own = share_of(self.data.labels, wanted, judge, logits) if rows else None
        return {"copies": float(copied.mean()), "recognised_no_copies": own}

    def _kept(self, generator: Generator) -> Figures:
        """The share of cells that the base knew which are still recognised when they are asked for."""
        asked = [
            KNOWN_CELLS[n % len(KNOWN_CELLS)] for n in range(max(len(KNOWN_CELLS), self.options.drawn // 3))
        ]
        judge = FindingJudge("cells", AttributeNet.load(CELLS_JUDGE))
        logits, _ = judge.see(self.drawn(generator, asked))
        return {"known_recognised": share_of(KNOWN_CELLS, asked, judge, logits)}

    def drawn(self, generator: Generator, texts: Sequence[str]) -> np.ndarray:
        """uint8 [N, H, W, 3], a seed for each text, always the same."""
        parts = [
            generator.generate(
                list(texts[start : start + BATCH_DRAWN]),
                list(range(start, min(start + BATCH_DRAWN, len(texts)))),
                self.options.steps,
                self.options.guidance,
            )
            for start in range(0, len(texts), BATCH_DRAWN)
        ]
        return np.concatenate(parts)

    def _note(self, name: str, figures: Figures) -> None:
        self.options.work.mkdir(parents=True, exist_ok=True)
        write_whole(self._path, json.dumps({**self.results, name: figures}, indent=1).encode())


def _within(own: Mapping[str, Any], given: Mapping[str, Any]) -> dict[str, Any]:
    """Settings with others in their place; of a group those alone that are given."""
    merged = {
        name: {**own[name], **value} if isinstance(value, Mapping) and name in own else value
        for name, value in given.items()
    }
    return {**own, **merged}


def _silent(progress: TrainingProgress) -> bool:
    del progress
    return True


def _scratch(options: ExperimentOptions, seed: int) -> Path:
    """The base with random weights in U-Net and text encoder."""
    from diffusers import UNet2DConditionModel
    from transformers import CLIPTextModel

    folder = options.work / f"{SCRATCH}-{seed}"
    if not folder.is_dir():
        torch.manual_seed(seed)
        pipe = load_pipeline(options.base)
        pipe.unet = UNet2DConditionModel.from_config(pipe.unet.config)
        pipe.text_encoder = CLIPTextModel(pipe.text_encoder.config)
        unfinished = folder.with_suffix(".new")
        shutil.rmtree(unfinished, ignore_errors=True)
        save_whole(pipe, unfinished)
        unfinished.rename(folder)
    return folder


def _mixed(images: CaptionedSet, count: int) -> CaptionedSet:
    """So many of the images, drawn at random, always the same."""
    rows = random.Random(0).sample(range(len(images)), min(count, len(images)))
    return images.subset(rows)


def _dealt(prompts: Sequence[Prompt], count: int) -> list[Prompt]:
    """So many prompts: half of them of wordings that taught, the rest of the other kinds, each in turn."""
    groups = [[one for one in prompts if one.kind == kind] for kind in _kinds(prompts)]
    trained, *others = groups
    rest = [one for group in others for one in group]
    half = count if not rest else -(-count // 2)
    dealt = [trained[n % len(trained)] for n in range(half)]
    return dealt + [rest[n % len(rest)] for n in range(count - half)]


def _kinds(prompts: Sequence[Prompt]) -> list[Any]:
    """The kinds of prompt, those that taught first."""
    return sorted({one.kind for one in prompts}, key=lambda kind: (kind != "trained", kind))


def _of_floor(real: np.ndarray, generated: np.ndarray, other: np.ndarray) -> float:
    """Coverage ÷ that of as many other real images."""
    count = min(len(generated), len(other))
    floor = coverage(real, other[:count])["coverage"]
    return coverage(real, generated[:count])["coverage"] / floor if floor else 0.0
