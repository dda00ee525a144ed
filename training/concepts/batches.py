"""What a concept is learned from, step by step: its images under the new word, and those of everything else."""

from __future__ import annotations

import random
from dataclasses import dataclass

import numpy as np
import torch

from training.alignment.step_rng import StepRng
from training.data.augmentation import dihedral
from training.data.captions import random_caption
from training.data.examples import Examples
from training.loop.session import TrainingSession
from vouch.models.captions import Vocabulary
from vouch.models.pipelines import Generator

DRAWN_OF_EACH = 16
"""Images of every label that the generator draws of itself where no real ones are at hand."""
DRAWN_BATCH = 32
FIRST_SEED = 60_000
DROP_CAPTION = 0.1
"""How often what is kept is kept without a caption: guidance starts from there."""
LABELLED_SHARE = 0.5
"""How often an image that experts told of is drawn rather than one that only the head did, which errs more."""
BARE_SHARE = 0.6
"""How often the concept's caption is its word alone, which is what most requests say."""


@dataclass(frozen=True)
class ConceptBatch:
    """Some images uint8 [N, 3, H, W] of the class, each with its caption as the concept and as the class, and whether
    it is the concept, bool [N]."""

    images: torch.Tensor
    as_concept: list[str]
    as_class: list[str]
    yes: torch.Tensor


@dataclass(frozen=True)
class SubTypeRows:
    """Rows of images that experts told of, and of those that the head did."""

    labelled: tuple[int, ...]
    pseudo: tuple[int, ...]

    def draw(self, rng: random.Random) -> int:
        return rng.choice(self.labelled if not self.pseudo or rng.random() < LABELLED_SHARE else self.pseudo)


@dataclass(frozen=True)
class SubTyped:
    """Images uint8 [N, 3, H, W] of the class with the attributes that the generator knows; the rows that are the
    concept, and those that are not, each as experts told and as the head did."""

    images: torch.Tensor
    attributes: tuple[dict[str, str], ...]
    yes: SubTypeRows
    no: SubTypeRows

    def draw(self, count: int, concept: str, kind_of: str, symmetric: bool, rng: StepRng) -> ConceptBatch:
        """As many of either side."""
        yes = torch.arange(count) % 2 == 0
        rows = [(self.yes if side else self.no).draw(rng.python) for side in yes.tolist()]
        captions = [random_caption("", self.attributes[row], rng.python, BARE_SHARE) for row in rows]
        images = _turned(self.images[rows], symmetric, rng)
        return ConceptBatch(
            images, [concept + rest for rest in captions], [kind_of + rest for rest in captions], yes
        )


@dataclass(frozen=True)
class Kept:
    """Images uint8 [N, 3, H, W] of what the generator knew before, with label and attributes."""

    images: torch.Tensor
    labels: tuple[str, ...]
    attributes: tuple[dict[str, str], ...]

    def __len__(self) -> int:
        return len(self.labels)

    def draw(self, count: int, symmetric: bool, rng: StepRng) -> tuple[torch.Tensor, list[str]]:
        """Images of all labels alike, and their captions; some without any."""
        choice, by_label = rng.python.choice, self._rows
        rows = [choice(by_label[choice(sorted(by_label))]) for _ in range(count)]
        captions = [
            "" if rng.python.random() < DROP_CAPTION else self._caption(row, rng.python) for row in rows
        ]
        return _turned(self.images[rows], symmetric, rng), captions

    @property
    def _rows(self) -> dict[str, list[int]]:
        rows: dict[str, list[int]] = {}
        for row, label in enumerate(self.labels):
            rows.setdefault(label, []).append(row)
        return rows

    def _caption(self, row: int, rng: random.Random) -> str:
        return random_caption(self.labels[row], self.attributes[row], rng)


def known(vocabulary: Vocabulary, attributes: dict[str, str]) -> dict[str, str]:
    """Those of them that the vocabulary has words for."""
    return {name: value for name, value in attributes.items() if value in vocabulary.attributes.get(name, ())}


def real_kept(data: Examples, vocabulary: Vocabulary) -> Kept:
    """Real images of every label that the generator knows, the concept's class included."""
    rows = [row for row, label in enumerate(data.labels) if label in vocabulary.labels]
    part = data.subset(rows)
    return Kept(part.images, part.labels, tuple(known(vocabulary, row) for row in part.attributes))


def draw_kept(generator: Generator, labels: tuple[str, ...], session: TrainingSession) -> Kept:
    """What the generator draws of every label before it learns anything; kept in the run's folder."""
    prompts = [label for label in labels for _ in range(DRAWN_OF_EACH)]
    path = session.folder / "kept.npy"
    if not session.group.broadcast_scalar(path.is_file()):
        drawn = _drawn(generator, prompts, session)
        if not session.group.is_rank_zero:
            return _kept(drawn, prompts)
        with path.with_suffix(".tmp").open("wb") as file:
            np.save(file, drawn)
        path.with_suffix(".tmp").replace(path)
    return _kept(np.load(path, allow_pickle=False), prompts)


def _kept(drawn: np.ndarray, prompts: list[str]) -> Kept:
    images = torch.from_numpy(drawn).permute(0, 3, 1, 2).contiguous()
    return Kept(images, tuple(prompts), ({},) * len(prompts))


def _drawn(generator: Generator, prompts: list[str], session: TrainingSession) -> np.ndarray:
    parts = []
    for start in range(0, len(prompts), DRAWN_BATCH):
        session.report(start, len(prompts), "drawing what is to be kept")
        some = prompts[start : start + DRAWN_BATCH]
        seeds = list(range(FIRST_SEED + start, FIRST_SEED + start + len(some)))
        parts.append(generator.generate(some, seeds, generator.default_steps, generator.default_guidance))
    return np.concatenate(parts)


def _turned(images: torch.Tensor, symmetric: bool, rng: StepRng) -> torch.Tensor:
    return dihedral(images, rng.torch) if symmetric else images
