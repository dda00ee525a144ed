"""All figures of one set of generated images: what a rollout is decided on."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
import torch

from training.attributes import recognise
from training.data import Examples
from training.evaluation import pixels, repeats, support
from training.evaluation.authenticity import Nearest, authentic, copies, false_alarms, nearest
from training.evaluation.coverage import coverage, density
from training.evaluation.distance import frechet, kid
from training.evaluation.diversity import within_class
from training.evaluation.features import Extractor, remembered
from training.evaluation.intervals import Estimate, bootstrapped, rate
from training.evaluation.judge import Judge
from training.evaluation.reach import changes_of_reach
from training.evaluation.repeats import Repeated
from training.evaluation.tail import tail
from training.plausibility import Assessment


@dataclass(frozen=True)
class Drawn:
    """Generated images uint8 [N, H, W, 3] with what was asked for."""

    images: np.ndarray
    prompts: tuple[str, ...]

    @property
    def labels(self) -> tuple[str, ...]:
        return tuple(prompt.partition(",")[0].strip() for prompt in self.prompts)


@dataclass(frozen=True)
class Space:
    """Real images in the features of one network: `unseen` [U, D] that nothing was trained on, and `train` [T, D] that
    the generator learned from, None where not at hand. `told` ends the name of every figure in it."""

    extractor: Extractor
    unseen: np.ndarray
    train: np.ndarray | None
    told: str = ""


@dataclass(frozen=True)
class RealImages:
    """Real images as the judge sees them, verdict and confidence under their own label [U], and in every network's
    features, the judge's first."""

    unseen: Examples
    train: Examples | None
    spaces: tuple[Space, ...]
    assessed: Assessment
    confidence: np.ndarray
    pixels: pixels.Pixels

    @classmethod
    def of(
        cls,
        judge: Judge,
        unseen: Examples,
        train: Examples | None,
        cache: Path,
        more: Sequence[Extractor] = (),
    ) -> RealImages:
        images = _arrays(unseen)
        spaces: list[Space] = []
        for extractor in (judge.extractor, *more):
            known = remembered(extractor, images, unseen.digest, cache)
            learned = None if train is None else remembered(extractor, _arrays(train), train.digest, cache)
            spaces.append(Space(extractor, known, learned, f", by {extractor.name}" if spaces else ""))
        assessed, confidence = judge.assess(images, unseen.labels), judge.confidence(images, unseen.labels)
        look = pixels.Pixels.of(images, unseen.labels)
        return cls(unseen, train, tuple(spaces), assessed, confidence, look)


@dataclass(frozen=True)
class Seen:
    """One version's images as they were found."""

    drawn: Drawn
    judge: Judge
    real: RealImages
    repeated: Repeated | None = None
    """Few prompts with several seeds each, where they were drawn."""

    @cached_property
    def assessed(self) -> Assessment:
        return self.judge.assess(self.drawn.images, self.drawn.prompts)

    @cached_property
    def features(self) -> tuple[np.ndarray, ...]:
        """[N, D] in each space."""
        return tuple(space.extractor.features(self.drawn.images) for space in self.real.spaces)

    @cached_property
    def repeated_features(self) -> tuple[np.ndarray, ...]:
        """The same of the repeated prompts."""
        if self.repeated is None:
            return ()
        images = self.repeated.drawn.images
        return tuple(space.extractor.features(images) for space in self.real.spaces)

    @cached_property
    def pixels(self) -> dict[str, np.ndarray]:
        return self.real.pixels.standard(self.drawn.images, self.drawn.labels)

    @cached_property
    def nearest(self) -> Nearest | None:
        """In the judge's features, where there are training images."""
        train = self.real.spaces[0].train
        return None if train is None else nearest(train, self.features[0])

    @cached_property
    def alarmed(self) -> np.ndarray:
        """Whether each image is nearer to a training image than all but a few unseen real ones: bool [N]."""
        space = self.real.spaces[0]
        assert space.train is not None
        return copies(space.train, space.unseen, self.features[0]).alarmed

    @cached_property
    def authentic(self) -> np.ndarray:
        train = self.real.spaces[0].train
        assert train is not None
        return authentic(train, self.features[0])

    def evidence(self) -> dict[str, Estimate]:
        """Every figure with its 95 % interval; "real …" are the same figures of real images, the best one can ask
        for."""
        real, drawn = self.real, self.drawn
        told = {
            "plausible": _share(self.assessed.plausible),
            "real plausible": _share(real.assessed.plausible),
            "recognised": _share(self.assessed.recognised),
            "attributes asked for": _share(_attributes(self.judge, drawn)),
            "below nearly all real": tail(
                real.confidence,
                real.unseen.labels,
                self.judge.confidence(drawn.images, drawn.prompts),
                drawn.labels,
            ),
            **_by_class(self.assessed.plausible, drawn.labels, "plausible"),
            **_by_class(real.assessed.plausible, real.unseen.labels, "real plausible"),
        }
        for space, features in zip(real.spaces, self.features, strict=True):
            found = {
                **_likeness(space.unseen, features, "against real"),
                **_likeness(*_apart(space.unseen, len(features)), "real against real"),
                "diversity within a class": within_class(
                    features, drawn.labels, space.unseen, real.unseen.labels
                ),
                **(_novelty(features, space) if space.train is not None else {}),
            }
            told |= {name + space.told: estimate for name, estimate in found.items()}
        told |= self._within_prompts()
        away = pixels.distances(real.pixels, self.pixels)
        return told | {f"{name}, distance from real": estimate for name, estimate in away.items()}

    def _within_prompts(self) -> dict[str, Estimate]:
        if self.repeated is None:
            return {}
        told = self.repeated.similarities()
        for space, features in zip(self.real.spaces, self.repeated_features, strict=True):
            found = self.repeated.figures(features, space.unseen)
            told |= {name + space.told: estimate for name, estimate in found.items()}
        return told

    def notes(self) -> tuple[str, ...]:
        """What one has to know to read the figures."""
        told = _proportions(self.drawn.labels, self.real.unseen.labels)
        return (told,) if self.repeated is None else (told, self.repeated.note)


def paired_changes(ours: Seen, theirs: Seen) -> dict[str, Estimate]:
    """What changed from `theirs` to `ours` on the same prompts and seeds; pairs are resampled."""
    rows = {
        "plausible": (ours.assessed.plausible, theirs.assessed.plausible),
        "recognised": (ours.assessed.recognised, theirs.assessed.recognised),
        "attributes asked for": tuple(_attributes(side.judge, side.drawn) for side in (ours, theirs)),
    }
    if ours.nearest is not None:
        rows["authentic"] = ours.authentic, theirs.authentic
        rows["copy alarms"] = ours.alarmed, theirs.alarmed
    told = {
        name: bootstrapped(one.astype(float) - other, lambda part: float(part.mean()))
        for name, (one, other) in rows.items()
        if len(one)
    }
    told |= changes_of_reach(ours.real.spaces[0].unseen, ours.features[0], theirs.features[0])
    if ours.repeated is not None and theirs.repeated is not None:
        features = ours.repeated_features[0], theirs.repeated_features[0]
        told |= repeats.changes(ours.repeated, theirs.repeated, features)
    away = pixels.changes(ours.real.pixels, ours.pixels, theirs.pixels)
    return told | {f"{name}, distance from real": estimate for name, estimate in away.items()}


def _attributes(judge: Judge, drawn: Drawn) -> np.ndarray:
    """Of all attributes that prompts ask for, in order, whether the judge's network, which learned from real images,
    sees them: bool [K]."""
    net = judge.plausibility.net
    said = recognise(net, torch.from_numpy(drawn.images).permute(0, 3, 1, 2))
    seen = []
    for row, prompt in enumerate(drawn.prompts):
        for name, value in net.vocabulary.parse(prompt).attributes.items():
            seen.append(net.vocabulary.attributes[name][int(said.attributes[name][row].argmax())] == value)
    return np.array(seen, dtype=bool)


def _by_class(passed: np.ndarray, labels: Sequence[str], name: str) -> dict[str, Estimate]:
    names = np.array(labels)
    return {f"{name}, {label}": _share(passed[names == label]) for label in sorted(set(labels))}


def _proportions(drawn: Sequence[str], real: Sequence[str]) -> str:
    shares = [
        [f"{100 * count / len(labels):.1f}" for _, count in reversed(Counter(labels).most_common())]
        for labels in (drawn, real)
    ]
    ours, theirs = (f"{share[0]} to {share[-1]} %" for share in shares)
    return (
        f"A class is {ours} of the generated images and {theirs} of the real ones. Figures of all classes together see "
        "that difference of proportions too, most of all precision, recall, density, coverage, α-precision, β-recall, "
        "KID and FID. Real against real has none of it, nor have changes between versions."
    )


def _likeness(real: np.ndarray, features: np.ndarray, name: str) -> dict[str, Estimate]:
    found = coverage(real, features)
    counted = {"precision": len(features), "recall": len(real), "coverage": len(real)}
    figures = {key: rate(round(found[key] * count), count) for key, count in counted.items()}
    levels = support.precision_levels(real, features), support.recall_levels(real, features)
    figures |= {
        "density": density(real, features),
        "alpha precision": bootstrapped(levels[0], support.integrated),
        "beta recall": bootstrapped(levels[1], support.integrated),
        "KID": kid(real, features),
        "FID": frechet(real, features),
    }
    return {f"{key}, {name}": value for key, value in figures.items()}


def _novelty(features: np.ndarray, space: Space) -> dict[str, Estimate]:
    assert space.train is not None
    return {
        "authentic": _share(authentic(space.train, features)),
        "real authentic": _share(authentic(space.train, space.unseen)),
        "copy alarms": _share(copies(space.train, space.unseen, features).alarmed),
        "real copy alarms": false_alarms(space.train, space.unseen),
        "distance to the nearest training image": bootstrapped(
            nearest(space.train, features).distance, lambda rows: float(np.median(rows))
        ),
        "real distance to the nearest training image": bootstrapped(
            nearest(space.train, space.unseen).distance, lambda rows: float(np.median(rows))
        ),
    }


def _share(passed: np.ndarray) -> Estimate:
    return rate(int(passed.sum()), len(passed))


def _apart(rows: np.ndarray, count: int) -> tuple[np.ndarray, np.ndarray]:
    """Real images, and as many others of them as were generated (half of them at most): what figures can reach."""
    order, count = np.random.default_rng(0).permutation(len(rows)), min(count, len(rows) // 2)
    return rows[order[count:]], rows[order[:count]]


def _arrays(examples: Examples) -> np.ndarray:
    return examples.images.permute(0, 2, 3, 1).numpy()
