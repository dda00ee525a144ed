"""One cell after the other: adapt, draw, measure, note. A second start goes on where the first was cut."""

from __future__ import annotations

import functools
import json
import shutil
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from benchmarks.adaptation.captions import Prompt
from benchmarks.adaptation.downstream import DRAWN, FIRST_SEED, downstream_gain, drawings, labelled
from benchmarks.adaptation.judges import FindingJudge, judges_of, share_of
from benchmarks.adaptation.kept import KnownCells
from benchmarks.adaptation.ladder import (
    ALL,
    NEEDS_ENCODER,
    RATES,
    RECIPES,
    SCRATCH,
    SEARCHED,
    Cell,
    Ladder,
    LadderData,
    passes_of,
    settings_of,
)
from benchmarks.adaptation.measures import authenticity_change, chroma, coverage_of_floor, logit_distance
from benchmarks.adaptation.sets import Sets, mixed
from training.adaptation.config import AdaptConfig
from training.adaptation.data import CaptionedSet
from training.adaptation.fit import fit
from training.adaptation.foundation import Foundation
from training.adaptation.inversion import InversionTuning
from training.adaptation.recipes import TUNINGS
from training.adaptation.unet import save_whole
from training.contact_sheet import contact_sheet
from training.evaluation.copies import CopyAlarm
from training.evaluation.distance import frechet, kid
from training.loop.progress import TrainingProgress
from training.loop.session import TrainingSession
from training.loop.tracker import NoTracker, Tracker
from vouch.models.loading import load_pipeline
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
    downstream_seeds: int = 0
    """Pairs of classifiers that tell of what use the drawings are; 0: none."""
    downstream_drawn: int = DRAWN
    look_again: bool = False
    """Whether models that an earlier start measured are drawn from and measured again; nothing is trained anew."""
    device: str = "cpu"
    """Where models learn and draw, "cpu" or "cuda"."""
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
        return {"test": mixed(test, self.options.drawn), "val": mixed(val, self.options.drawn)}

    @functools.cached_property
    def known(self) -> KnownCells:
        return KnownCells.load(self.options.sets, self.options.drawn)

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
        """The figures of a cell: trained once, and measured once or again, as the options say."""
        folder, known = self.options.work / "cells" / cell.name, self.results.get(cell.name)
        if known is not None and not (self.options.look_again and (folder / "version").is_dir()):
            return known
        data = self.data.few(cell.images, cell.seed)
        trained = known or self.adapted(self.config_of(cell, folder, self.rate(cell)), folder, data)
        generator = self.loaded(folder / "version")
        self.note(cell.name, {**trained, **self.looked_at(generator, self.reading(cell), data, folder)})
        shutil.rmtree(folder / "run", ignore_errors=True)
        return self.results[cell.name]

    def measure_base(self) -> Figures:
        """The figures of the model that nobody adapted."""
        name = f"{self.ladder}/{BASE}"
        if name not in self.results or self.options.look_again:
            folder, everything = self.options.work / "cells" / name, self.data.few(ALL, 0)
            generator = self.loaded(self.options.base)
            self.note(name, self.looked_at(generator, lambda text: text, everything, folder))
        return self.results[name]

    def rate(self, cell: Cell) -> float:
        """The learning rate of a cell: its recipe's, or the best of RATES times it by validation loss, at SEARCHED
        images and the first seed. The trainings of the search count for no recipe."""
        usual = float(RECIPES[cell.recipe]["lr"])
        if not self.options.search:
            return usual
        name, first = f"rates/{cell.ladder}/{cell.recipe}", replace(cell, images=SEARCHED, seed=0)
        if name not in self.results:
            losses: Figures = {}
            for factor in RATES:
                folder = self.options.work / name / f"{factor:.2f}"
                config = self.config_of(first, folder, usual * factor)
                figures = self.adapted(config, folder, self.data.few(first.images, first.seed))
                losses[str(usual * factor)] = figures["validation_loss"]
                shutil.rmtree(folder)
            self.note(name, losses)
        tried = {float(rate): loss for rate, loss in self.results[name].items() if loss is not None}
        return min(tried, key=tried.__getitem__)

    def config_of(self, cell: Cell, folder: Path, rate: float) -> AdaptConfig:
        """The settings of a cell's training."""
        options = self.options
        passes = options.passes or passes_of(cell.images)
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

    def adapted(self, config: AdaptConfig, folder: Path, data: CaptionedSet) -> Figures:
        """Trains, and keeps the curve of its validation losses in `folder`."""
        curves, started = Curves(), time.monotonic()
        figures: Figures = dict(fit(config, self.session(folder, curves), data))
        figures |= {"lr": config.lr, "seconds": time.monotonic() - started}
        write_whole(folder / "validation.json", json.dumps(curves.validation).encode())
        return figures

    def session(self, folder: Path, tracker: Tracker | None = None) -> TrainingSession:
        """A training in `folder` that says nothing."""
        return TrainingSession(folder / "run", _silent, tracker, device=self.options.device)

    def foundation(self, config: AdaptConfig) -> Foundation:
        """What an adaptation begins with."""
        return Foundation(config.base, config.parent, self.options.device, config.precision)

    def loaded(self, version: Path) -> Generator:
        """What was trained, upon the base where it is a LoRA."""
        lora = not (version / "model_index.json").is_file()
        return load_generator(version, self.options.base if lora else None, self.options.device)

    def reading(self, cell: Cell) -> Any:
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
        taught = data.of("train")
        figures |= self._copies(images, asked, taught) | self._authenticity(images, asked, taught)
        known = self.known.prompts(self.options.drawn // 3)
        figures |= self.known.figures(self.drawn(generator, known), known)
        if self.options.downstream_seeds:
            figures |= self._downstream(generator, say, taught)
        return figures

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
        other_logits, other = judge.see(val.arrays)
        count = min(len(trained), len(other))  # FID and KS distance grow as samples shrink: sides of one size
        findings = [label for label in labels if label != self.data.domain.captions.absent]
        return {
            **said,
            "findings_found": share_of(findings, told, judge, logits[trained]),
            "findings_found_real": share_of(findings, test.labels, judge, real),
            "recognised_real": on_real,
            "finding_agreement_points": 100 * (said["recognised_trained"] - on_real),
            "finding_logit_distance": logit_distance(real, logits[trained], test.labels, told, judge.labels),
            "finding_logit_distance_real": logit_distance(
                real, other_logits[:count], test.labels, val.labels[:count], judge.labels
            ),
            "fid": frechet(seen, features[trained][:count]).value,
            "fid_real": frechet(seen, other[:count]).value,
            "kid": kid(seen, features[trained]).value,
            "coverage_of_floor": coverage_of_floor(seen, features[trained], other),
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

    def _authenticity(self, images: np.ndarray, asked: Sequence[Prompt], taught: CaptionedSet) -> Figures:
        """In the features of the first judge, of the wordings that taught."""
        judge, rows = self.judges[0], [row for row, one in enumerate(asked) if one.kind == "trained"]
        sides = (taught.arrays, images[rows], self.real["test"].arrays)
        change, low, high = authenticity_change(*(judge.see(side)[1] for side in sides))
        name = f"{judge.name}_authenticity_change"
        return {f"{name}_points": change, f"{name}_low_points": low, f"{name}_high_points": high}

    def _downstream(self, generator: Generator, say: Any, taught: CaptionedSet) -> Figures:
        asked = [prompt for prompt in self.data.prompts() if prompt.kind == "trained"]
        dealt = in_turn(asked, self.options.downstream_drawn)
        images = self.drawn(generator, [say(prompt.text) for prompt in dealt], FIRST_SEED)
        drawn = drawings(images, [prompt.label for prompt in dealt])
        test, kept = labelled(self.data.images("test")), self.options.work / "classifiers"
        return downstream_gain(labelled(taught), drawn, test, self.options.downstream_seeds, kept)

    def drawn(self, generator: Generator, texts: Sequence[str], first_seed: int = 0) -> np.ndarray:
        """uint8 [N, H, W, 3], a seed for each text, always the same."""
        parts = [
            generator.generate(
                list(texts[start : start + BATCH_DRAWN]),
                [first_seed + row for row in range(start, min(start + BATCH_DRAWN, len(texts)))],
                self.options.steps,
                self.options.guidance,
            )
            for start in range(0, len(texts), BATCH_DRAWN)
        ]
        return np.concatenate(parts)

    def note(self, name: str, figures: Figures) -> None:
        """Keeps figures by this name."""
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


def _dealt(prompts: Sequence[Prompt], count: int) -> list[Prompt]:
    """So many prompts: half of them of wordings that taught, the rest of the other kinds, each in turn."""
    groups = [[one for one in prompts if one.kind == kind] for kind in _kinds(prompts)]
    trained, *others = groups
    rest = [one for group in others for one in group]
    half = count if not rest else -(-count // 2)
    dealt = [trained[n % len(trained)] for n in range(half)]
    return dealt + [rest[n % len(rest)] for n in range(count - half)]


def in_turn(prompts: Sequence[Prompt], count: int) -> list[Prompt]:
    """So many of these prompts: each label as often, its wordings in turn."""
    labels = sorted({one.label for one in prompts})
    by_label = {label: [one for one in prompts if one.label == label] for label in labels}
    dealt = [(by_label[labels[n % len(labels)]], n // len(labels)) for n in range(count)]
    return [wordings[turn % len(wordings)] for wordings, turn in dealt]


def _kinds(prompts: Sequence[Prompt]) -> list[Any]:
    """The kinds of prompt, those that taught first."""
    return sorted({one.kind for one in prompts}, key=lambda kind: (kind != "trained", kind))
