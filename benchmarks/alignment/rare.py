"""What generated images are worth where one type is rare: a classifier learns from all real images of the other types
and from 20 of this one, with and without generated images, and reads real test images.

python -m benchmarks.alignment.rare --json FILE [--work FOLDER] [--generator LORA-OR-FOLDER]

The 20 are repeated until their type is as frequent as the others on average, in both arms. Generated images are of
every type, as many of each: of the rare type alone, a classifier would learn to tell it by how generated images look.
The generator has itself learned from all training images, those of the rare type too: this is what the *shipped
generator* is worth to a site that has 20.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import torch

from benchmarks.alignment.downstream import LEARNING, SEEDS, Source, parser_of, run
from benchmarks.report import Figure, Report
from training.data.examples import Examples, load_examples
from training.evaluation.downstream import Labelled, accuracy, kept_reading
from training.evaluation.intervals import Estimate
from training.randomness import numbers

TYPES = ("basophil", "erythroblast", "immature granulocyte")
"""Rare in blood, and each a rare type in its turn."""
FEW = 20
GENERATED = 200
"""Of each type."""
PLAIN, HELPED = "real", "real and synthetic"
Readings = Mapping[str, np.ndarray]
"""Which test images the classifiers of an arm read rightly, bool [seeds, N] by arm."""


def main() -> int:
    parser = parser_of("benchmarks.alignment.rare", str(__doc__))
    return run(parser, lambda source, chosen: measured(source, chosen.data, chosen.split))


def measured(source: Source, data: Path, split: str) -> Report:
    train, test = load_examples(data / "train.parquet"), load_examples(data / f"{split}.parquet")
    few = train.subset(few_of_each(train.labels, FEW))
    synthetic = source.drawn(few, GENERATED * len(set(train.labels)))
    readings = {}
    for name in TYPES:
        real = with_rare(train, few, name)
        readings[name] = _readings(real, synthetic, Labelled.of(test), source.work / "classifiers")
    report = Report("rare")
    add_rare_gain(report, readings, test)
    report.add("real images of the rare type", Figure(FEW, "images"))
    report.add("generated images of each type", Figure(GENERATED, "images"))
    report.add(f"{split} images read", Figure(len(test), "images"))
    return report


def few_of_each(labels: Sequence[str], count: int) -> list[int]:
    """Rows of so many images of each class, the classes in turn."""
    chosen = []
    for label in sorted(set(labels)):
        own = [row for row, other in enumerate(labels) if other == label]
        chosen.append(numbers(0, "rare", label).sample(own, count))
    return [rows[place] for place in range(count) for rows in chosen]


def with_rare(train: Examples, few: Examples, name: str) -> Labelled:
    """All images of the other types, and the few of this one, repeated until it is as frequent as they are."""
    others = [row for row, label in enumerate(train.labels) if label != name]
    own = [row for row, label in enumerate(few.labels) if label == name]
    frequent = len(others) // (len(set(train.labels)) - 1)
    rows = [own[place % len(own)] for place in range(frequent)]
    rest, rare = train.subset(others), few.subset(rows)
    return Labelled(torch.cat([rest.images, rare.images]), (*rest.labels, *rare.labels))


def _readings(real: Labelled, synthetic: Labelled, test: Labelled, kept: Path) -> Readings:
    arms = {PLAIN: None, HELPED: synthetic}
    return {
        arm: np.stack([kept_reading(real, given, test, LEARNING, seed, kept) for seed in SEEDS])
        for arm, given in arms.items()
    }


def add_rare_gain(report: Report, readings: Mapping[str, Readings], test: Examples) -> None:
    """The gain of the rare types' recall, and of the other types' accuracy, over all rare types and for each."""
    labels = np.array(test.labels)
    gains = {name: of[HELPED].astype(float) - of[PLAIN] for name, of in readings.items()}
    gain = _over_types(gains, {name: labels == name for name in readings}, test)
    rest = _over_types(gains, {name: labels != name for name in readings}, test)
    report.add("rare_type_gain_points", _points(gain, must=">= 3"))
    report.add("rare_type_gain_low_points", Figure(100 * gain.low, "points", must="> 0"))
    report.add("other_types_change_points", _points(rest))
    for name, of in readings.items():
        for arm in (PLAIN, HELPED):
            found = _over_types({name: of[arm]}, {name: labels == name}, test)
            report.add(f"recall of {name}, {arm}", Figure(found.value, "share", found.low, found.high))


def _over_types(rows: Mapping[str, np.ndarray], read: Mapping[str, np.ndarray], test: Examples) -> Estimate:
    """The mean over all types of what `read` chooses of their test images. An image that counts for several types is
    resampled as one, and so are those of a patient."""
    chosen = np.concatenate([rows[name][:, read[name]] for name in rows], axis=1)
    return accuracy(chosen, [test.groups[row] for name in rows for row in np.flatnonzero(read[name])])


def _points(gain: Estimate, **bars: str) -> Figure:
    return Figure(100 * gain.value, "points", 100 * gain.low, 100 * gain.high, **bars)


if __name__ == "__main__":
    sys.exit(main())
