"""How different the images are that one prompt draws with several seeds.

A generator that draws one picture of each prompt, and another of the next, looks varied class by class. RoentGen
(Chambon et al. 2022, arXiv 2211.12737) measures the similarity of four images of a prompt; so does this, and their
distance in features, beside real images of what the prompt asks for.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import combinations
from typing import Any

import numpy as np
import torch
from PIL import Image
from torchmetrics.functional.image import (
    multiscale_structural_similarity_index_measure,
    structural_similarity_index_measure,
)

from training.data.examples import Examples
from training.evaluation.diversity import within_prompt
from training.evaluation.intervals import Estimate, bootstrapped
from vouch.models.captions import Declared, Vocabulary

DISTANCE = "pairwise distance within a prompt"
WINDOW: Mapping[str, Any] = {"gaussian_kernel": True, "sigma": 1.5, "kernel_size": 11, "k1": 0.01, "k2": 0.03}
"""Of the similarity (Wang et al. 2004), for pixels between 0 and 1."""
FIVE_SCALES = 176
"""Pixels of the shorter side: four halvings leave what the window of 11 needs (Wang et al. 2003)."""
ENOUGH = 4
"""Real images that share a prompt's attributes; with fewer, those of its class stand beside it."""
MOST = 8
"""Real images beside a prompt."""
ROUNDS = 1000


@dataclass(frozen=True)
class SeedRepeats:
    """Several images uint8 [N, H, W, 3] of each of few prompts [N]."""

    images: np.ndarray
    prompts: tuple[str, ...]

    @property
    def multiscale(self) -> bool:
        return min(self.images.shape[1:3]) >= FIVE_SCALES

    @property
    def similarity_name(self) -> str:
        return f"pairwise {'MS-SSIM' if self.multiscale else 'SSIM'} within a prompt"

    @cached_property
    def similarity(self) -> dict[str, float]:
        """The mean over each prompt's pairs, MS-SSIM where images are large enough for its five scales, else SSIM: 1 of
        copies, near 0 of images that have nothing to do with each other."""
        names, similarities = np.array(self.prompts), {}
        for prompt in sorted(set(self.prompts)):
            pairs = list(combinations(np.flatnonzero(names == prompt).tolist(), 2))
            if pairs:
                similarities[prompt] = float(_similarity(self.images, pairs, self.multiscale).mean())
        return similarities


@dataclass(frozen=True)
class Beside(SeedRepeats):
    """Real images of what each prompt asks for: the `rows` of them among the unseen ones, and the prompts to which
    `alike` they share the attributes too, not the class alone."""

    rows: tuple[int, ...]
    alike: frozenset[str]

    @classmethod
    def of(cls, drawn: SeedRepeats, unseen: Examples, vocabulary: Vocabulary) -> Beside:
        """In the size of what was drawn, for similarity depends on it."""
        rows: list[int] = []
        prompts: list[str] = []
        alike = set()
        for number, prompt in enumerate(sorted(set(drawn.prompts))):
            declared = vocabulary.parse(prompt)
            matching = rows_of(declared, unseen)
            if len(matching) >= ENOUGH:
                alike.add(prompt)
            else:
                matching = rows_of(Declared(declared.label, {}), unseen)
            some = np.random.default_rng(number).permutation(matching)[:MOST].tolist()
            rows, prompts = rows + some, prompts + [prompt] * len(some)
        images = resized(unseen.images[rows].permute(0, 2, 3, 1).numpy(), drawn.images.shape[1:3])
        return cls(images, tuple(prompts), tuple(rows), frozenset(alike))


@dataclass(frozen=True)
class Repeated:
    """What one version drew of few prompts with several seeds each, and real images of the same."""

    drawn: SeedRepeats
    real: Beside

    def figures(self, features: np.ndarray, unseen: np.ndarray) -> dict[str, Estimate]:
        """The mean distance of two images of a prompt; features of what was drawn [N, D] and of unseen images [U, D].
        Prompts are resampled."""
        ours = within_prompt(features, self.drawn.prompts)
        theirs = within_prompt(unseen[list(self.real.rows)], self.real.prompts)
        return {DISTANCE: _mean(ours), f"real {DISTANCE}": _mean(theirs)}

    def similarities(self) -> dict[str, Estimate]:
        name = self.drawn.similarity_name
        return {name: _mean(self.drawn.similarity), f"real {name}": _mean(self.real.similarity)}

    @property
    def note(self) -> str:
        """How it was measured."""
        prompts, alike = len(set(self.drawn.prompts)), len(self.real.alike)
        height, width = self.drawn.images.shape[1:3]
        scales = "in five scales" if self.drawn.multiscale else "in one scale, as five need 176 pixels"
        return (
            f"Within a prompt: {len(self.drawn.prompts)} images of {prompts} prompts, several seeds each. Similarity "
            f"is measured {scales}, at {width} by {height} pixels, with a Gaussian window of 11 (deviation 1.5). "
            f"Beside {alike} of the prompts stand real images of their class and attributes, "
            f"beside {prompts - alike} of their class alone."
        )


def changes(ours: Repeated, theirs: Repeated, features: tuple[np.ndarray, np.ndarray]) -> dict[str, Estimate]:
    """What changed from `theirs` to `ours` within the same prompts; features: those of both, [N, D] each."""
    estimates = {
        DISTANCE: [
            within_prompt(rows, side.drawn.prompts)
            for rows, side in zip(features, (ours, theirs), strict=True)
        ],
        ours.drawn.similarity_name: [ours.drawn.similarity, theirs.drawn.similarity],
    }
    return {
        name: _mean({prompt: one[prompt] - other[prompt] for prompt in one})
        for name, (one, other) in estimates.items()
    }


def rows_of(declared: Declared, examples: Examples) -> list[int]:
    """The images of that class with all these attributes."""
    wanted = declared.attributes.items()
    return [
        row
        for row, (label, attributes) in enumerate(zip(examples.labels, examples.attributes, strict=True))
        if label == declared.label and wanted <= attributes.items()
    ]


def _similarity(images: np.ndarray, pairs: Sequence[tuple[int, int]], multiscale: bool) -> torch.Tensor:
    measure = (
        multiscale_structural_similarity_index_measure if multiscale else structural_similarity_index_measure
    )
    pixels = torch.from_numpy(images).permute(0, 3, 1, 2).float() / 255
    first, second = (pixels[list(side)] for side in zip(*pairs, strict=True))
    return measure(first, second, data_range=1.0, reduction="none", **WINDOW)


def resized(images: np.ndarray, size: tuple[int, ...]) -> np.ndarray:
    """uint8 [N, H, W, 3] in (height, width) pixels."""
    if images.shape[1:3] == size:
        return images
    height, width = size
    return np.stack([np.asarray(Image.fromarray(image).resize((width, height))) for image in images])


def _mean(values: Mapping[str, float]) -> Estimate:
    """Over prompts, which are resampled; nan of none."""
    if not values:
        return Estimate(math.nan, math.nan, math.nan)
    return bootstrapped(np.array(list(values.values())), lambda rows: float(rows.mean()), rounds=ROUNDS)
