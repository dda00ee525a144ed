"""The starter model against real cells: is the prompted type recognised, is the real variety reached.

    python -m benchmarks.starter --json FILE --data FOLDER_WITH_pbc64

Needs the real test split (pbc64); says so and measures nothing without it.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

import numpy as np
import torch

import vouch
from benchmarks.report import Figure, Report
from training.attributes import Answers, recognise
from training.data import load_examples
from training.evaluation.intervals import rate
from training.evaluation.judge import Judge, coverage_floor
from training.pretraining.grids import contact_sheet
from vouch.captions import caption
from vouch.pipelines import Generator, load_generator

STARTER = Path(vouch.__file__).parent / "starter"
PER_CLASS = 100
BATCH = 50


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--json", type=Path)
    parser.add_argument(
        "--data", type=Path, default=Path("../shared/data/pbc64"), help="folder with test.parquet"
    )
    parser.add_argument("--starter", type=Path, default=STARTER)
    parser.add_argument("--per-class", type=int, default=PER_CLASS)
    parser.add_argument("--guidance", type=float, help="instead of the model's default")
    parser.add_argument("--steps", type=int, help="instead of the model's default")
    parser.add_argument("--sheets", type=Path, help="folder for a contact sheet of each class")
    arguments = parser.parse_args()
    if not (arguments.data / "test.parquet").is_file():
        print(f"skipped: {arguments.data}/test.parquet is not there; give the folder of pbc64 with --data.")
        return 0
    measure(arguments).finish(arguments.json)
    return 0


def measure(arguments: argparse.Namespace) -> Report:
    torch.set_num_threads(torch.get_num_threads())
    judge = Judge.load(arguments.starter / "judge")
    test, val = load_examples(arguments.data / "test.parquet"), load_examples(arguments.data / "val.parquet")
    generator = load_generator(arguments.starter / "generator")
    images, labels = draw(generator, arguments)
    if arguments.sheets:
        show(images, labels, arguments.sheets)
    said = recognise(judge.plausibility.net, test.images)
    right = said.labels.argmax(1) == Answers(test, judge.plausibility.vocabulary).labels
    real, drawn = rate(int(right.sum()), len(right)), judge.assess(images, labels)
    recognised = rate(int(drawn.recognised.sum()), len(labels))
    plausible = rate(int(drawn.plausible.sum()), len(labels))
    real_plausible = judge.plausibility.assess(test.images, test.labels).plausible
    reached = judge.coverage(images)
    report = Report("starter")
    report.add("real_classifier_accuracy", Figure(real.value, "share", real.low, real.high, ">= 0.94"))
    report.add(
        "prompted_class_recognised",
        Figure(recognised.value, "share", recognised.low, recognised.high, ">= 0.90"),
    )
    report.add("coverage", Figure(reached.value, "share", reached.low, reached.high))
    report.add("coverage_floor", Figure(coverage_floor(judge, val, arguments.per_class), "share"))
    report.add("plausible", Figure(plausible.value, "share", plausible.low, plausible.high))
    report.add("plausible_real", Figure(float(real_plausible.mean()), "share"))
    for label in sorted(set(labels)):
        rows = [i for i, other in enumerate(labels) if other == label]
        found = rate(int(drawn.recognised[rows].sum()), len(rows))
        report.add(f"recognised {label}", Figure(found.value, "share", found.low, found.high))
    return report


def draw(generator: Generator, arguments: argparse.Namespace) -> tuple[np.ndarray, tuple[str, ...]]:
    """The same number of every class, by the settings that a client gets."""
    assert generator.vocabulary is not None
    prompts = [caption(label) for label in generator.vocabulary.labels for _ in range(arguments.per_class)]
    steps = arguments.steps or generator.default_steps
    guidance = arguments.guidance if arguments.guidance is not None else generator.default_guidance
    parts = [
        generator.generate(
            prompts[i : i + BATCH], list(range(i, i + len(prompts[i : i + BATCH]))), steps, guidance
        )
        for i in range(0, len(prompts), BATCH)
    ]
    return np.concatenate(parts), tuple(prompts)


def show(images: np.ndarray, labels: tuple[str, ...], folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for label in sorted(set(labels)):
        rows = [i for i, other in enumerate(labels) if other == label][:32]
        contact_sheet(images[rows], 8, folder / f"{label.replace(' ', '-')}.png")


if __name__ == "__main__":
    sys.exit(main())
