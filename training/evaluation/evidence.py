"""All figures of one set of generated images: what a rollout is decided on."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch

from training.attributes import recognise
from training.data import Examples
from training.evaluation import support
from training.evaluation.authenticity import authentic, copies
from training.evaluation.coverage import coverage
from training.evaluation.distance import frechet, kid
from training.evaluation.diversity import relative, within_prompt
from training.evaluation.intervals import Estimate, bootstrapped, rate
from training.evaluation.judge import Judge
from training.evaluation.tail import tail
from training.plausibility import Assessment

UNKNOWN = Estimate(float("nan"), float("nan"), float("nan"))


@dataclass(frozen=True)
class Drawn:
    """Generated images uint8 [N, H, W, 3] with what was asked for."""

    images: np.ndarray
    prompts: tuple[str, ...]


@dataclass(frozen=True)
class RealFeatures:
    """Real images as the judge sees them. `unseen` are those that nothing was trained on: features [U, D], labels,
    verdicts and confidence [U] under their own label; `train` [T, D] those that the generator learned from, None where
    not at hand."""

    unseen: np.ndarray
    labels: tuple[str, ...]
    assessed: Assessment
    confidence: np.ndarray
    train: np.ndarray | None = None

    @classmethod
    def of(cls, judge: Judge, unseen: Examples, train: Examples | None) -> RealFeatures:
        images = _arrays(unseen)
        learned = None if train is None else judge.features(_arrays(train))
        labels = unseen.labels
        return cls(
            judge.features(images),
            labels,
            judge.assess(images, labels),
            judge.confidence(images, labels),
            learned,
        )


def evidence(judge: Judge, drawn: Drawn, real: RealFeatures) -> dict[str, Estimate]:
    """Every figure with its 95 % interval; "real …" are the same figures of real images, the best one can ask for."""
    features, assessed = judge.features(drawn.images), judge.assess(drawn.images, drawn.prompts)
    labels = [prompt.partition(",")[0].strip() for prompt in drawn.prompts]
    figures = {
        "plausible": _share(assessed.plausible),
        "real plausible": _share(real.assessed.plausible),
        "recognised": _share(assessed.recognised),
        "attributes asked for": _attributes(judge, drawn),
        "below nearly all real": tail(real.confidence, judge.confidence(drawn.images, drawn.prompts)),
        **_by_class(assessed.plausible, labels),
        **_likeness(real.unseen, features, "against real"),
        **_likeness(*_apart(real.unseen, len(features)), "real against real"),
        "diversity within a prompt": _diversity(features, labels, real),
    }
    return figures | (_novelty(features, real) if real.train is not None else {})


def paired_gain(judge: Judge, version: Drawn, against: Drawn) -> dict[str, Estimate]:
    """What changed from `against` to `version` on the same prompts and seeds: mean differences, resampled by pairs."""
    ours, theirs = (judge.assess(one.images, one.prompts) for one in (version, against))
    differences = {
        "plausible": ours.plausible.astype(float) - theirs.plausible,
        "recognised": ours.recognised.astype(float) - theirs.recognised,
    }
    return {name: bootstrapped(rows, lambda part: float(part.mean())) for name, rows in differences.items()}


def _attributes(judge: Judge, drawn: Drawn) -> Estimate:
    """Of all attributes that prompts ask for, those that the judge's network sees."""
    net = judge.plausibility.net
    said = recognise(net, torch.from_numpy(drawn.images).permute(0, 3, 1, 2))
    seen = []
    for row, prompt in enumerate(drawn.prompts):
        for name, value in net.vocabulary.parse(prompt).attributes.items():
            seen.append(net.vocabulary.attributes[name][int(said.attributes[name][row].argmax())] == value)
    return _share(np.array(seen, dtype=bool))


def _by_class(passed: np.ndarray, labels: Sequence[str]) -> dict[str, Estimate]:
    names = np.array(labels)
    return {f"plausible, {label}": _share(passed[names == label]) for label in sorted(set(labels))}


def _likeness(real: np.ndarray, features: np.ndarray, name: str) -> dict[str, Estimate]:
    found = coverage(real, features)
    counted = {"precision": len(features), "recall": len(real), "coverage": len(real)}
    figures = {key: rate(round(found[key] * count), count) for key, count in counted.items()}
    levels = support.precision_levels(real, features), support.recall_levels(real, features)
    figures |= {
        "density": _bare(found["density"]),
        "alpha precision": bootstrapped(levels[0], support.integrated),
        "beta recall": bootstrapped(levels[1], support.integrated),
        "KID": kid(real, features),
        "FID": _bare(frechet(real, features)),
    }
    return {f"{key}, {name}": value for key, value in figures.items()}


def _novelty(features: np.ndarray, real: RealFeatures) -> dict[str, Estimate]:
    assert real.train is not None
    alarms = copies(real.train, real.unseen, features)
    return {
        "authentic": _share(authentic(real.train, features)),
        "real authentic": _share(authentic(real.train, real.unseen)),
        "copy alarms": rate(round(alarms.rate * len(features)), len(features)),
    }


def _diversity(features: np.ndarray, labels: Sequence[str], real: RealFeatures) -> Estimate:
    """Of the images of a class, against real ones of it."""
    ours, theirs = within_prompt(features, labels), within_prompt(real.unseen, real.labels)
    return _bare(relative(ours, theirs))


def _share(passed: np.ndarray) -> Estimate:
    return rate(int(passed.sum()), len(passed))


def _bare(value: float) -> Estimate:
    return Estimate(value, UNKNOWN.low, UNKNOWN.high)


def _apart(rows: np.ndarray, count: int) -> tuple[np.ndarray, np.ndarray]:
    """Real images, and as many others of them as were generated (half of them at most): what figures can reach."""
    order, count = np.random.default_rng(0).permutation(len(rows)), min(count, len(rows) // 2)
    return rows[order[count:]], rows[order[:count]]


def _arrays(examples: Examples) -> np.ndarray:
    return examples.images.permute(0, 2, 3, 1).numpy()
