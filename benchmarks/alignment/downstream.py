"""What a site with few labelled images of its own gains from generated ones: a classifier learns from a tenth of the
real images, from generated ones, and from both, and reads real test images.

python -m benchmarks.alignment.downstream --json FILE [--work FOLDER] [--generator LORA-OR-FOLDER]

The starter generator has itself learned from all of pbc64's training images: the generated ones carry over what it saw
of the nine tenths that the classifier does not see. So the gain is what the *shipped generator* is worth to a site with
few images, not what generating alone makes of a tenth. Every choice below was made on the validation split; the test
split is measured once.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import sys
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
import torch

import vouch
from benchmarks.report import Figure, Report, arguments, screen
from training.data.captions import random_caption
from training.data.digest import digest_of
from training.data.examples import Examples, load_examples
from training.evaluation.downstream import Labelled, Learning, downstream, figures, share_of
from training.evaluation.intervals import Estimate
from training.randomness import numbers
from vouch.models.pipelines import Generator, load_generator
from vouch.models.sampling import with_sampler

PBC64 = Path("../shared/data/pbc64")
STARTER = Path(vouch.__file__).parent / "starter" / "generator"
SHARE = 0.1
"""Of the real training images."""
COUNT = 2040
"""Generated images, two to a real one."""
SAMPLER, STEPS, GUIDANCE = "dpm++2m", 12, 1.25
BARE = 0.3
"""Of the prompts, those without attributes."""
FIRST_SEED, BATCH = 700_000_000, 30
LEARNING = Learning(steps=400, synthetic_share=0.25)
"""The least bad of what was tried: docs/explain/trials.md says what else was."""
SEEDS = (0, 1, 2)


def main() -> int:
    parser = parser_of("benchmarks.alignment.downstream", str(__doc__))
    parser.add_argument("--count", type=int, default=COUNT, help="generated images")
    return run(parser, lambda source, chosen: measured(source, chosen.data, chosen.count, chosen.split))


def parser_of(module: str, text: str) -> argparse.ArgumentParser:
    """The arguments of a benchmark whose classifiers read a split of pbc64."""
    parser = arguments(module, text.splitlines()[0])
    parser.add_argument("--data", type=Path, default=PBC64, help="folder of pbc64")
    parser.add_argument("--work", type=Path, help="keep what is drawn here, and go on from it")
    parser.add_argument(
        "--generator", type=Path, default=STARTER, help="diffusers folder, or LoRA on the starter"
    )
    parser.add_argument(
        "--split", choices=("val", "test"), default="test", help="what is read; choose on val"
    )
    return parser


def run(parser: argparse.ArgumentParser, measure: Callable[[Source, argparse.Namespace], Report]) -> int:
    """Measures and reports, or says that the images are not there."""
    chosen = parser.parse_args()
    if not (chosen.data / f"{chosen.split}.parquet").is_file():
        screen().print(f"skipped: {chosen.data} is not there; give the folder of pbc64 with --data.")
        return 0
    with tempfile.TemporaryDirectory() as scratch:
        report = measure(Source(chosen.generator, chosen.work or Path(scratch)), chosen)
    report.finish(chosen.json)
    return 0


def measured(source: Source, data: Path, count: int, split: str) -> Report:
    train, test = load_examples(data / "train.parquet"), load_examples(data / f"{split}.parquet")
    few = train.subset(share_of(train.labels, SHARE, groups=train.groups))
    synthetic = source.drawn(few, count)
    found = downstream(
        Labelled.of(few),
        synthetic,
        Labelled.of(test),
        LEARNING,
        SEEDS,
        source.work / "classifiers",
    )
    told = figures(found, test.groups)
    report = Report("downstream")
    add_gain(report, told.pop("downstream gain"))
    for name, estimate in told.items():
        report.add(name, Figure(estimate.value, "share", estimate.low, estimate.high))
    report.add("real images learned from", Figure(len(few), "images"))
    report.add("generated images learned from", Figure(len(synthetic), "images"))
    report.add(f"{split} images read", Figure(len(test), "images"))
    return report


def add_gain(report: Report, gain: Estimate) -> None:
    """A gain is one when its whole interval lies above 0, so the limit is on the lower bound."""
    value, low, high = (100 * bound for bound in (gain.value, gain.low, gain.high))
    report.add("downstream_gain_points", Figure(value, "points", low, high, aim=">= 5"))
    report.add("downstream_gain_low_points", Figure(low, "points", must="> 0"))


@dataclass(frozen=True)
class Source:
    """A generator, and the folder where its images are kept."""

    generator: Path
    work: Path

    @cached_property
    def key(self) -> str:
        return _key([digest_of(self.generator), SAMPLER, STEPS, GUIDANCE, FIRST_SEED, BATCH])

    def drawn(self, few: Examples, count: int) -> Labelled:
        """`count` images of the classes of `few` in their proportions, from prompts with the attributes that were
        annotated in `few`, and in nothing else."""
        rows, prompts = asked(few, count)
        folder = self.work / self.key
        folder.mkdir(parents=True, exist_ok=True)
        parts = [self._part(folder, prompts, start) for start in range(0, count, BATCH)]
        images = torch.from_numpy(np.concatenate(parts)).permute(0, 3, 1, 2).contiguous()
        return Labelled(images, tuple(few.labels[row] for row in rows))

    @cached_property
    def _loaded(self) -> Generator:
        generator = load_generator(self.generator, STARTER)
        generator.pipe.scheduler = with_sampler(generator.pipe.scheduler, SAMPLER)
        return generator

    def _part(self, folder: Path, prompts: Sequence[str], start: int) -> np.ndarray:
        batch = prompts[start : start + BATCH]
        kept = folder / f"{start}-{_key(batch)}.npy"
        if not kept.is_file():
            seeds = range(FIRST_SEED + start, FIRST_SEED + start + len(batch))
            images = self._loaded.generate(batch, seeds, STEPS, GUIDANCE)
            with kept.with_suffix(".tmp").open("wb") as file:
                np.save(file, images)
            kept.with_suffix(".tmp").replace(kept)
        return np.asarray(np.load(kept, allow_pickle=False))


def asked(few: Examples, count: int) -> tuple[list[int], list[str]]:
    """For each generated image the real one that lends its label and a random part of its attributes, all in turn."""
    order = list(range(len(few)))
    numbers(0, "order").shuffle(order)
    rows = [order[place % len(order)] for place in range(count)]
    prompts = [
        random_caption(few.labels[row], few.attributes[row], numbers(0, "prompt", place), BARE)
        for place, row in enumerate(rows)
    ]
    return rows, prompts


def _key(told: Sequence[object]) -> str:
    return hashlib.sha256(json.dumps(told).encode()).hexdigest()[:12]


if __name__ == "__main__":
    sys.exit(main())
