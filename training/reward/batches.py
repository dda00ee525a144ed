"""What a reward model learns from: rated images, real ones as they are, and images under a class drawn at random."""

from __future__ import annotations

import hashlib
import math
import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

import torch

from training.data.augmentation import augment
from training.data.captions import random_caption
from training.data.examples import Examples
from training.inputs.pairs import Pairs
from training.inputs.rated import Rated
from training.randomness import numbers, tensors
from training.reward.recognition import LABEL, Facts, indices
from vouch.models.networks.backbone import to_input
from vouch.models.networks.reward import RewardEnsemble

Row = tuple[torch.Tensor, str, torch.Tensor, Facts]
"""An image uint8 [3, S, S], its prompt, targets [1 + criteria] with nan where nothing is known, and what is annotated
of it."""


@dataclass(frozen=True)
class Batch:
    """What members are given (images float [N, 3, S, S], or features [N, F] of a frozen backbone), encoded prompts
    [N, P], targets [N, 1 + criteria], and what is annotated, as indices [N] into each list of words."""

    seen: torch.Tensor
    prompts: torch.Tensor
    targets: torch.Tensor
    facts: Mapping[str, torch.Tensor]


class ImageRows(Protocol):
    """Where rows are drawn from."""

    def draw(self, count: int, rng: random.Random) -> list[Row]: ...


class RatedRows:
    """Rated images with what was said of them."""

    def __init__(self, rated: Rated, learn: Sequence[int], model: RewardEnsemble, size: int) -> None:
        self.rated, self.learn, self.model = rated, learn, model
        self.images = sized(rated.images, size)
        self.targets = rated.targets(model.criteria).float()

    def draw(self, count: int, rng: random.Random) -> list[Row]:
        return [self._row(rng.choice(self.learn)) for _ in range(count)]

    def _row(self, i: int) -> Row:
        return self.images[i], self.rated.prompts[i], self.targets[i], {}


class SwappedRows:
    """Rated images under a class drawn at random: implausible, whatever they show."""

    def __init__(self, rows: RatedRows) -> None:
        self.rows = rows

    def draw(self, count: int, rng: random.Random) -> list[Row]:
        model = self.rows.model
        drawn = self.rows.draw(count, rng)
        return [(image, other(model, prompt, rng), pseudo(model, 0.0), {}) for image, prompt, *_ in drawn]


class RealRows:
    """Real images, by turns with their own caption (plausible) and with another class (implausible)."""

    def __init__(self, real: Examples, model: RewardEnsemble, size: int) -> None:
        self.real, self.model = real, model
        self.images = sized(real.images, size)

    def draw(self, count: int, rng: random.Random) -> list[Row]:
        return [self._row(rng.randrange(len(self.real)), number % 2 == 1, rng) for number in range(count)]

    def _row(self, i: int, own: bool, rng: random.Random) -> Row:
        label, attributes = self.real.labels[i], self.real.attributes[i]
        prompt = random_caption(label, attributes, rng) if own else other(self.model, label, rng)
        return self.images[i], prompt, pseudo(self.model, float(own)), {LABEL: label, **attributes}


class Show(Protocol):
    """What members are given of images uint8 [N, 3, S, S]: augmented anew, or features that are known already."""

    def __call__(self, images: torch.Tensor, random_: torch.Generator) -> torch.Tensor: ...


class Augmented:
    """Images, changed a little every time."""

    def __init__(self, symmetric: bool) -> None:
        self.symmetric = symmetric

    def __call__(self, images: torch.Tensor, random_: torch.Generator) -> torch.Tensor:
        return augment(images, self.symmetric, random_)


class FrozenFeatures:
    """Features of a few augmented views of each image. Nothing in the backbone changes, so each is computed once."""

    def __init__(self, model: RewardEnsemble, views: int, symmetric: bool) -> None:
        self.model, self.views, self.symmetric = model, views, symmetric
        self.known: dict[tuple[bytes, int], torch.Tensor] = {}

    def __call__(self, images: torch.Tensor, random_: torch.Generator) -> torch.Tensor:
        drawn = torch.randint(0, self.views, (len(images),), generator=random_).tolist()
        keys = [
            (hashlib.sha256(image.numpy().tobytes()).digest(), view)
            for image, view in zip(images, drawn, strict=True)
        ]
        new = {key: row for row, key in enumerate(keys) if key not in self.known}
        if new:
            self.known |= dict(zip(new, self._features(images[list(new.values())], list(new)), strict=True))
        return torch.stack([self.known[key] for key in keys])

    @torch.no_grad()
    def _features(self, images: torch.Tensor, keys: Sequence[tuple[bytes, int]]) -> torch.Tensor:
        # Each view is drawn by the image's own name: a resumed run sees the same.
        shown = [
            augment(image[None], self.symmetric, tensors(digest.hex(), view))
            for image, (digest, view) in zip(images, keys, strict=True)
        ]
        return self.model.look(torch.cat(shown))


class Batches:
    """Mixes the sources. Each member draws its own, so that members differ where the data say little."""

    def __init__(
        self, model: RewardEnsemble, parts: Sequence[tuple[ImageRows, int]], *, show: Show, seed: object
    ) -> None:
        self.model, self.parts, self.show, self.seed = model, parts, show, seed

    def batch(self, member: int, step: int) -> Batch:
        name = (self.seed, "reward", member, step)
        rng, random_ = numbers(*name), tensors(*name)
        rows = [row for source, count in self.parts for row in source.draw(count, rng)]
        images, prompts, targets, facts = zip(*rows, strict=True)
        return Batch(
            self.show(torch.stack(images), random_),
            self.model.encode(prompts),
            torch.stack(targets),
            indices(facts, self.model.vocabulary),
        )


@dataclass(frozen=True)
class ComparisonBatch:
    """What members are given of two batches of images, with encoded prompts [N, P]; how often the first was preferred,
    [N]."""

    first: torch.Tensor
    first_prompts: torch.Tensor
    second: torch.Tensor
    second_prompts: torch.Tensor
    preferred: torch.Tensor


class PairBatches:
    """Pairs that were compared, `count` of those in `learn` for every step of every member."""

    def __init__(
        self,
        model: RewardEnsemble,
        pairs: Pairs,
        learn: Sequence[int],
        count: int,
        *,
        size: int,
        show: Show,
        seed: object,
    ) -> None:
        self.model, self.pairs, self.learn, self.count = model, pairs, learn, count
        self.size, self.show, self.seed = size, show, seed

    def batch(self, member: int, step: int) -> ComparisonBatch:
        name = (self.seed, "pairs", member, step)
        rng, random_ = numbers(*name), tensors(*name)
        rows = rng.choices(self.learn, k=self.count)

        def side(images: torch.Tensor, prompts: Sequence[str]) -> tuple[torch.Tensor, torch.Tensor]:
            shown = self.show(sized(images[rows], self.size), random_)
            return shown, self.model.encode([prompts[row] for row in rows])

        return ComparisonBatch(
            *side(self.pairs.first, self.pairs.first_prompts),
            *side(self.pairs.second, self.pairs.second_prompts),
            self.pairs.preferred[rows],
        )


def sized(images: torch.Tensor, size: int) -> torch.Tensor:
    """uint8 images at the reward's size: a foreign generator's need not have it."""
    return ((to_input(images, size) + 1) * 127.5).round().clamp(0, 255).to(torch.uint8)


def pseudo(model: RewardEnsemble, plausible: float) -> torch.Tensor:
    """Targets of a pseudo-label. A real image passes every criterion; of a swapped one only the class is wrong."""
    rest = 1.0 if plausible else math.nan
    return torch.tensor(
        [plausible, *(plausible if name == model.class_criterion else rest for name in model.criteria)]
    )


def other(model: RewardEnsemble, prompt: str, rng: random.Random) -> str:
    """A class of the vocabulary that `prompt` does not declare."""
    label = prompt.split(",")[0].strip()
    return rng.choice([name for name in model.vocabulary.labels if name != label] or [label])
