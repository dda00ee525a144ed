"""The two ladders of the experiment: which recipe learns from how many images, and for how long.

The currency is a U-Net pass: one image through the U-Net once, forward. A backward pass counts as two, so a step of
batch B costs 3·B, whatever is frozen.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from benchmarks.adaptation.base import NEAR
from benchmarks.adaptation.captions import Prompt, prompts
from benchmarks.adaptation.sets import CHEST_LABELS, Sets, joined
from training.adaptation.data import CaptionedSet
from vouch.domains.criteria import Domain, load_domain

Ladder = Literal["near", "far"]
ALL = 0
"""In the place of a number of images: as many as there are."""
SCRATCH = "scratch"
PASSES: Mapping[int, int] = {5: 20_000, 10: 40_000, 100: 100_000, 1000: 300_000, ALL: 300_000}
"""U-Net passes of a training at so many images of each label."""
PASSES_PER_IMAGE = 3
KNOWN_CELLS = (
    "eosinophil", "immature granulocyte", "lymphocyte", "monocyte", "neutrophil", "platelet",
)  # fmt: skip
KNOWN = (
    *KNOWN_CELLS,
    "computed tomography of the abdomen",
    "computed tomography of the chest",
    "computed tomography of the head",
    "magnetic resonance of the breast",
    "x-ray of the hand",
)
"""What the foundation model knows, and what it is to keep."""
PRIOR: Mapping[str, Any] = {
    "weight": 1.0, "kind": "noise-free", "images": 100, "share": 0.25, "prompts": KNOWN,
}  # fmt: skip
DRAWN_AT = 20
"""Denoising steps of the images of the prior; each is guided, and so costs two passes."""

RECIPES: Mapping[str, Mapping[str, Any]] = {
    "text-inversion": {"recipe": "text-inversion", "lr": 5e-3},
    "text-projection-linear": {"recipe": "text-projection", "lr": 1e-3},
    "text-projection-hidden": {"recipe": "text-projection", "lr": 1e-3, "projection": {"hidden": 256}},
    "unet-lora": {"recipe": "unet", "rank": 16, "lr": 1e-3},
    "unet-full": {"recipe": "unet", "rank": 0, "lr": 3e-4},
    "unet-text": {"recipe": "unet-text", "rank": 0, "lr": 3e-4},
    "unet-full-no-prior": {"recipe": "unet", "rank": 0, "lr": 3e-4},
    SCRATCH: {"recipe": "unet-text", "rank": 0, "lr": 6e-4},
}
"""Settings of each recipe. The one without prior tells what prior preservation keeps. Scratch begins with random
weights, and learns at the rate of a pre-training."""
RATES = (1 / 3, 1.0, 3.0)
"""Of a recipe's learning rate: what a search tries."""
SEARCHED = 100
"""Images of each label of a search."""
VALIDATIONS = 20
"""Validation losses of a training."""
NEEDS_ENCODER = ("text-projection-linear", "text-projection-hidden")
KEEPS_PRIOR = ("unet-lora", "unet-full", "unet-text")


@dataclass(frozen=True)
class Cell:
    """One training of the experiment. Example: ``Cell("far", "unet-lora", 10, 0).name == "far/unet-lora/10/0"``."""

    ladder: Ladder
    recipe: str
    images: int
    """Of each label; ALL: every one."""
    seed: int

    @property
    def name(self) -> str:
        return f"{self.ladder}/{self.recipe}/{self.images or 'all'}/{self.seed}"


def cells(
    ladders: Sequence[Ladder], recipes: Sequence[str], sizes: Sequence[int], seeds: Iterable[int]
) -> Iterator[Cell]:
    """Every cell, the first seed of all before the second of any: what is cut short is whole as far as it goes."""
    for seed in seeds:
        for ladder in ladders:
            for images in sizes:
                yield from (Cell(ladder, recipe, images, seed) for recipe in recipes)


def passes_of(images: int) -> int:
    """U-Net passes of a training at so many images of each label: those of the next lower number of PASSES."""
    if images == ALL:
        return PASSES[ALL]
    sizes = sorted(set(PASSES) - {ALL})
    return PASSES[max((size for size in sizes if size <= images), default=sizes[0])]


def steps_of(passes: int, batch: int, prior: Mapping[str, Any] | None = None) -> int:
    """Steps that cost so many passes. A prior that is kept costs a step its share of images with their base's own word,
    and in the beginning the drawing of its images."""
    if prior is None:
        return max(1, passes // (PASSES_PER_IMAGE * batch))
    drawing, kept = 2 * DRAWN_AT * prior["images"], round(batch * prior["share"])
    return max(1, (passes - drawing) // (PASSES_PER_IMAGE * (batch + kept) + kept))


@dataclass(frozen=True)
class LadderData:
    """What a ladder teaches: its domain, its labels, and its images."""

    ladder: Ladder
    sets: Sets

    @property
    def domain(self) -> Domain:
        return load_domain("chest_xray" if self.ladder == "far" else "blood_cells")

    @property
    def labels(self) -> tuple[str, ...]:
        return CHEST_LABELS if self.ladder == "far" else NEAR

    def images(self, split: Literal["train", "val", "test"]) -> CaptionedSet:
        if self.ladder == "far":
            return self.sets.chests(split)
        return self.sets.cells(split, only=NEAR)

    def few(self, images: int, seed: int) -> CaptionedSet:
        """So many training images of each label, with the images that validate."""
        return self.taught(images * len(self.labels), seed)

    def taught(self, count: int, seed: int) -> CaptionedSet:
        """So many training images in all, labels in turn, with the images that validate."""
        train = self.images("train")
        return joined(train if count == ALL else train.few(count, seed), self.images("val"))

    def of_each(self, share: float) -> int:
        """Images of each label that are together this share of the training images."""
        return max(1, round(share * len(self.images("train")) / len(self.labels)))

    def prompts(self) -> tuple[Prompt, ...]:
        """What is asked of a model afterwards."""
        return prompts(self.domain, self.labels)


def inversion_words(domain: Domain, labels: Sequence[str]) -> tuple[str, ...]:
    """A new word for the phrase of each label. Example: "<viral-pneumonia>=viral pneumonia"."""
    phrases = [domain.captions.phrase(label) for label in labels]
    return tuple(f"<{phrase.replace(' ', '-')}>={phrase}" for phrase in phrases)


def settings_of(
    cell: Cell, world: LadderData, passes: int, batch: int, encoder: str | None
) -> dict[str, Any]:
    """The settings of a cell's training."""
    own: dict[str, Any] = dict(RECIPES[cell.recipe])
    if cell.recipe == "text-inversion":
        own["inversion"] = {"words": inversion_words(world.domain, world.labels)}
    if cell.recipe in NEEDS_ENCODER:
        own["encoder"] = encoder
    prior = PRIOR if cell.recipe in KEEPS_PRIOR else None
    if prior:
        own["prior"] = dict(prior)
    steps = steps_of(passes, batch, prior)
    # Equal compute: nothing ends a training early, and what is kept is the best of it all the same.
    spent = {"steps": steps, "validate_every": max(1, steps // VALIDATIONS), "patience": 10_000}
    turned = {"symmetric": world.domain.symmetric}
    return {**own, **turned, "seed": cell.seed, "batch": batch, "sheet_every": steps, **spent}
