"""All figures of one set of generated images: what a rollout is decided on."""

from __future__ import annotations

from collections import Counter
from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
import torch

from training.attributes.recognition import recognise
from training.data.examples import Examples
from training.evaluation import pixels, repeats, support
from training.evaluation.attribute_shares import Read, attribute_distances
from training.evaluation.authenticity import authentic, nearest
from training.evaluation.copies import PLANTED, Codec, CopyAlarm, Nearest
from training.evaluation.coverage import covered, density
from training.evaluation.distance import frechet, kid
from training.evaluation.diversity import change_within_class, within_class
from training.evaluation.features import Extractor, remembered
from training.evaluation.forms import prompts_of_form
from training.evaluation.intervals import Estimate, bootstrapped, share
from training.evaluation.judge import Judge
from training.evaluation.reach import changes_of_reach
from training.evaluation.repeats import Repeated, resized
from training.evaluation.sharpness import Spectra, change_of_sharpness, sharpness
from training.evaluation.tail import tail
from training.raters.plausibility import Assessment
from vouch.models.networks.attributes import Recognition


@dataclass(frozen=True)
class GeneratedSet:
    """Generated images uint8 [N, H, W, 3] with what was asked for."""

    images: np.ndarray
    prompts: tuple[str, ...]

    @property
    def labels(self) -> tuple[str, ...]:
        return tuple(prompt.partition(",")[0].strip() for prompt in self.prompts)


@dataclass(frozen=True)
class Space:
    """Real images in the features of one network: `unseen` [U, D] that nothing was trained on, and `train` [T, D] that
    the generator learned from, None where not at hand. `suffix` ends the name of every figure in it."""

    extractor: Extractor
    unseen: np.ndarray
    train: np.ndarray | None
    suffix: str = ""


@dataclass(frozen=True)
class RealReference:
    """Real images as the judge sees them: its verdicts under `prompts` [U], its confidence under their own label [U],
    the attributes that it reads, and every network's features, the judge's first.

    alarm: None without training images.
    """

    unseen: Examples
    train: Examples | None
    spaces: tuple[Space, ...]
    prompts: tuple[str, ...]
    assessed: Assessment
    confidence: np.ndarray
    read: Read
    pixels: pixels.Pixels
    alarm: CopyAlarm | None

    @classmethod
    def of(
        cls,
        judge: Judge,
        unseen: Examples,
        train: Examples | None,
        cache: Path,
        more: Sequence[Extractor] = (),
        *,
        asked: Sequence[str] = (),
        symmetric: bool = True,
    ) -> RealReference:
        """asked: the prompts that are drawn, in whose form real images are judged; none: under their class alone.
        symmetric: whether flips and quarter turns of an image show the same thing."""
        images, learned = unseen.arrays, None if train is None else train.arrays
        spaces: list[Space] = []
        for extractor in (judge.extractor, *more):
            known = remembered(extractor, images, unseen.digest, cache)
            features = None
            if train is not None and learned is not None:
                features = remembered(extractor, learned, train.digest, cache)
            spaces.append(Space(extractor, known, features, f", by {extractor.name}" if spaces else ""))
        prompts = prompts_of_form(asked, unseen, judge.plausibility.vocabulary)
        return cls(
            unseen, train, tuple(spaces), prompts, judge.assess(images, prompts),
            judge.confidence(images, unseen.labels), _read(_recognised(judge, images)),
            pixels.Pixels.of(images, unseen.labels),
            None if learned is None else CopyAlarm.calibrated(learned, images, symmetric),
        )  # fmt: skip

    def annotated(self) -> dict[str, list[str]]:
        """Of each class the attributes that its images are annotated with."""
        known: dict[str, set[str]] = {label: set() for label in sorted(set(self.unseen.labels))}
        for label, attributes in zip(self.unseen.labels, self.unseen.attributes, strict=True):
            known[label] |= set(attributes) & set(self.read)
        return {label: sorted(names) for label, names in known.items() if names}


@dataclass(frozen=True)
class Seen:
    """One version's images as they were found."""

    drawn: GeneratedSet
    judge: Judge
    real: RealReference
    repeated: Repeated | None = None
    """Few prompts with several seeds each, where they were drawn."""
    through: Codec | None = None
    """The version's autoencoder: with it the copy alarm is tried on copies that passed it."""
    planted: int = PLANTED
    """Training images that are planted as copies of each kind."""

    @cached_property
    def recognition(self) -> Recognition:
        """What the judge's network, which learned from real images, sees."""
        return _recognised(self.judge, self.drawn.images)

    @cached_property
    def spectra(self) -> Spectra:
        return Spectra.of(self.drawn.images)

    @cached_property
    def real_spectra(self) -> Spectra:
        """Of unseen real images in the size of the drawings: frequencies are counted by the pixel."""
        return Spectra.of(resized(self.real.unseen.arrays, self.drawn.images.shape[1:3]))

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
        """By the copy alarm, where there are training images."""
        return None if self.real.alarm is None else self.real.alarm.nearest(self.drawn.images)

    @cached_property
    def alarmed(self) -> np.ndarray:
        """Whether each image is nearer to a training image than all but a few unseen real ones: bool [N]."""
        assert self.nearest is not None and self.real.alarm is not None
        return self.nearest.relative < self.real.alarm.limit

    @cached_property
    def authentic(self) -> np.ndarray:
        train = self.real.spaces[0].train
        assert train is not None
        return authentic(train, self.features[0])

    def evidence(self) -> dict[str, Estimate]:
        """Every figure with its 95 % interval; "real …" are the same figures of real images, the best one can ask
        for."""
        real, drawn = self.real, self.drawn
        figures = {
            "plausible": share(self.assessed.plausible),
            "real plausible": share(real.assessed.plausible, real.unseen.groups),
            "recognised": share(self.assessed.recognised),
            "attributes asked for": share(_attributes(self)),
            "below nearly all real": tail(
                real.confidence,
                real.unseen.labels,
                self.judge.confidence(drawn.images, drawn.prompts),
                drawn.labels,
            ),
            **_by_class(self.assessed.plausible, drawn.labels, "plausible"),
            **_by_class(real.assessed.plausible, real.unseen.labels, "real plausible", real.unseen.groups),
        }
        groups = real.unseen.groups
        rest, some = apart(real.unseen.groups, len(drawn.labels))
        for space, features in zip(real.spaces, self.features, strict=True):
            estimates = {
                **_likeness(space.unseen, features, "against real", groups),
                **_likeness(
                    space.unseen[rest],
                    space.unseen[some],
                    "real against real",
                    [groups[int(row)] for row in rest],
                ),
                "diversity within a class": within_class(
                    features, drawn.labels, space.unseen, real.unseen.labels
                ),
                **(_novelty(features, space, real.unseen.groups) if space.train is not None else {}),
            }
            figures |= {name + space.suffix: estimate for name, estimate in estimates.items()}
        figures |= self._within_prompts() | self._copies() | self._attributes_shown()
        figures |= sharpness(self.real_spectra, self.spectra, real.unseen.groups)
        away = pixels.distances(real.pixels, self.pixels)
        return figures | {f"{name}, distance from real": estimate for name, estimate in away.items()}

    def _copies(self) -> dict[str, Estimate]:
        """The alarm: how often it goes off, how often it should not have, and how many planted copies it finds."""
        alarm, train = self.real.alarm, self.real.train
        if alarm is None or train is None:
            return {}
        figures = {
            "copy alarms": share(self.alarmed),
            "real copy alarms": alarm.false_alarms(self.real.unseen.groups),
        }
        if self.planted:
            power = alarm.power(train.arrays, self.through, self.planted)
            figures |= {f"copy alarm power, {kind}": estimate for kind, estimate in power.items()}
        return figures

    def _attributes_shown(self) -> dict[str, Estimate]:
        """How far the shares of each class's attributes are from real ones; the same of as many other real images."""
        real, labels = self.real, np.array(self.real.unseen.labels)
        theirs, known = real.unseen.labels, real.annotated()
        ours = attribute_distances(real.read, theirs, _read(self.recognition), self.drawn.labels, known)
        rest, some = apart(real.unseen.groups, len(self.drawn.labels))
        sides = [{name: values[rows] for name, values in real.read.items()} for rows in (rest, some)]
        floor = attribute_distances(sides[0], labels[rest].tolist(), sides[1], labels[some].tolist(), known)
        return ours | {f"real {name}": estimate for name, estimate in floor.items()}

    def _within_prompts(self) -> dict[str, Estimate]:
        if self.repeated is None:
            return {}
        figures = self.repeated.similarities()
        for space, features in zip(self.real.spaces, self.repeated_features, strict=True):
            estimates = self.repeated.figures(features, space.unseen)
            figures |= {name + space.suffix: estimate for name, estimate in estimates.items()}
        return figures

    def notes(self) -> tuple[str, ...]:
        """What one has to know to read the figures."""
        lines = _proportions(self.drawn.labels, self.real.unseen.labels)
        return (lines,) if self.repeated is None else (lines, self.repeated.note)


def paired_changes(ours: Seen, theirs: Seen) -> dict[str, Estimate]:
    """What changed from `theirs` to `ours` on the same prompts and seeds; pairs are resampled."""
    rows = {
        "plausible": (ours.assessed.plausible, theirs.assessed.plausible),
        "recognised": (ours.assessed.recognised, theirs.assessed.recognised),
        "attributes asked for": tuple(_attributes(side) for side in (ours, theirs)),
    }
    if ours.nearest is not None:
        rows["authentic"] = ours.authentic, theirs.authentic
        rows["copy alarms"] = ours.alarmed, theirs.alarmed
    changes = {
        name: bootstrapped(one.astype(float) - other, lambda part: float(part.mean()))
        for name, (one, other) in rows.items()
        if len(one)
    }
    known = ours.real
    changes |= changes_of_reach(
        known.spaces[0].unseen, ours.features[0], theirs.features[0], known.unseen.groups
    )
    changes["diversity within a class"] = change_within_class(
        ours.features[0],
        theirs.features[0],
        ours.drawn.labels,
        ours.real.spaces[0].unseen,
        ours.real.unseen.labels,
    )
    changes |= change_of_sharpness(ours.real_spectra, ours.spectra, theirs.spectra, known.unseen.groups)
    if ours.repeated is not None and theirs.repeated is not None:
        features = ours.repeated_features[0], theirs.repeated_features[0]
        changes |= repeats.changes(ours.repeated, theirs.repeated, features)
    away = pixels.changes(ours.real.pixels, ours.pixels, theirs.pixels)
    return changes | {f"{name}, distance from real": estimate for name, estimate in away.items()}


def _recognised(judge: Judge, images: np.ndarray) -> Recognition:
    return recognise(judge.plausibility.net, torch.from_numpy(images).permute(0, 3, 1, 2))


def _read(recognition: Recognition) -> Read:
    return {name: logits.argmax(1).numpy() for name, logits in recognition.attributes.items()}


def _attributes(seen: Seen) -> np.ndarray:
    """Of all attributes that prompts ask for, in order, whether the judge's network sees them: bool [K]."""
    vocabulary, read, distances = seen.judge.plausibility.vocabulary, _read(seen.recognition), []
    for row, prompt in enumerate(seen.drawn.prompts):
        for name, value in vocabulary.parse(prompt).attributes.items():
            distances.append(vocabulary.attributes[name][int(read[name][row])] == value)
    return np.array(distances, dtype=bool)


def _by_class(
    passed: np.ndarray, labels: Sequence[str], name: str, groups: Sequence[Hashable] | None = None
) -> dict[str, Estimate]:
    rows = {label: np.flatnonzero(np.array(labels) == label) for label in sorted(set(labels))}
    return {
        f"{name}, {label}": share(passed[its], None if groups is None else [groups[int(row)] for row in its])
        for label, its in rows.items()
    }


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


def _likeness(
    real: np.ndarray, features: np.ndarray, name: str, groups: Sequence[Hashable]
) -> dict[str, Estimate]:
    """groups: whose each real image is; what counts real images is resampled by them."""
    near_real, near_generated = covered(real, features), covered(features, real)
    figures = {
        "precision": share(near_real.any(0)),
        "recall": share(near_generated.any(0), groups),
        "coverage": share(near_real.any(1), groups),
    }
    levels = support.precision_levels(real, features), support.recall_levels(real, features)
    figures |= {
        "density": density(real, features),
        "alpha precision": bootstrapped(levels[0], support.integrated),
        "beta recall": bootstrapped(levels[1], support.integrated, groups=groups),
        "KID": kid(real, features, groups),
        "FID": frechet(real, features, groups),
    }
    return {f"{key}, {name}": value for key, value in figures.items()}


def _novelty(features: np.ndarray, space: Space, groups: Sequence[Hashable]) -> dict[str, Estimate]:
    assert space.train is not None

    def median(rows: np.ndarray) -> float:
        return float(np.median(rows))

    return {
        "authentic": share(authentic(space.train, features)),
        "real authentic": share(authentic(space.train, space.unseen), groups),
        "distance to the nearest training image": bootstrapped(
            nearest(space.train, features).distance, median
        ),
        "real distance to the nearest training image": bootstrapped(
            nearest(space.train, space.unseen).distance, median, groups=groups
        ),
    }


def apart(groups: Sequence[Hashable], count: int) -> tuple[np.ndarray, np.ndarray]:
    """Rows of real images, and of about as many others of them as were generated (half of them at most): what figures
    can reach. All images of a patient are on one side."""
    members: dict[Hashable, list[int]] = {}
    for row, group in enumerate(groups):
        members.setdefault(group, []).append(row)
    whole: list[list[int]] = list(members.values())
    some: list[int] = []
    order = np.random.default_rng(0).permutation(len(whole))
    for place in order:
        if len(some) + len(whole[place]) > min(count, len(groups) // 2):
            break
        some += whole[place]
    return np.setdiff1d(np.arange(len(groups)), some), np.array(some, dtype=int)
