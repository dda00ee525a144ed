"""What all parts share: the judges, real cells by class, the generator, and its drawings."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np

from training.data.captions import random_caption
from training.data.examples import Examples, load_examples
from training.evaluation.evidence import GeneratedSet
from training.evaluation.forms import prompts_of_form
from training.evaluation.judge import Judge
from training.evaluation.sealed import Sealed, sealed_judge
from training.randomness import numbers
from vouch.models.pipelines import Generator, load_generator

FIRST_SEED = 7_000_000
"""Far from the seeds that anything was trained, rated or chosen on."""
BATCH = 50


@dataclass(frozen=True)
class Options:
    """What is measured, on what."""

    data: Path
    generator: Path
    judge: Path
    old: Path | None
    cache: Path
    per_class: int
    steps: int | None = None
    guidance: float | None = None
    sheets: Path | None = None


@dataclass(frozen=True)
class Cells:
    """Real cells uint8 [N, H, W, 3] with their labels [N] and the prompts that they are judged under [N]."""

    images: np.ndarray
    labels: np.ndarray
    prompts: tuple[str, ...]


class Bench:
    """Everything is loaded or drawn once, when it is first asked for."""

    def __init__(self, options: Options) -> None:
        self.options = options

    @cached_property
    def sealed(self) -> Sealed:
        return sealed_judge(self.options.data, self.options.cache)

    @cached_property
    def first_judge(self) -> Judge:
        return Judge.load(self.options.judge)

    @cached_property
    def test(self) -> Examples:
        return self.split("test")

    def split(self, name: str) -> Examples:
        return load_examples(self.split_file(name))

    def split_file(self, name: str) -> Path:
        return self.options.data / f"{name}.parquet"

    @cached_property
    def generator(self) -> Generator:
        return load_generator(self.options.generator)

    @cached_property
    def real(self) -> Cells:
        """Of the test split, as many of each class as are drawn, or all; under prompts of the drawings' form."""
        rows = balanced(self.test.labels, self.options.per_class)
        examples = self.test.subset(rows.tolist())
        prompts = prompts_of_form(self._prompts(), examples, self.sealed.judge.plausibility.vocabulary)
        return Cells(arrays(examples), np.array(examples.labels), prompts)

    @cached_property
    def drawn(self) -> GeneratedSet:
        """As many of each class, with attributes as real cells have them, by the settings that a client gets."""
        prompts, generator = self._prompts(), self.generator
        steps = self.options.steps or generator.default_steps
        guidance = generator.default_guidance if self.options.guidance is None else self.options.guidance
        parts = []
        for start in range(0, len(prompts), BATCH):
            asked = prompts[start : start + BATCH]
            seeds = [FIRST_SEED + start + row for row in range(len(asked))]
            parts.append(generator.generate(asked, seeds, steps, guidance))
        return GeneratedSet(np.concatenate(parts), prompts)

    def _prompts(self) -> tuple[str, ...]:
        random, prompts = numbers("starter benchmark"), []
        for label in sorted(set(self.test.labels)):
            rows = [row for row, other in enumerate(self.test.labels) if other == label]
            chosen = random.choices(rows, k=self.options.per_class)
            prompts += [random_caption(label, self.test.attributes[row], random) for row in chosen]
        return tuple(prompts)


def balanced(labels: Sequence[str], per_class: int, skip: int = 0) -> np.ndarray:
    """The rows of the first `per_class` images of each class after `skip` of them, by class."""
    names = np.array(labels)
    return np.concatenate(
        [np.flatnonzero(names == label)[skip : skip + per_class] for label in sorted(set(labels))]
    )


def arrays(examples: Examples) -> np.ndarray:
    """uint8 [N, H, W, 3]."""
    return examples.images.permute(0, 2, 3, 1).numpy()
