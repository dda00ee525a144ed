"""What a reward model learns from: rated images, real ones as they are, and images under a class drawn at random."""

from __future__ import annotations

import math
import random
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import torch

from training.attributes import augment
from training.data import Examples, random_caption
from training.inputs import Pairs, Rated
from training.randomness import numbers, tensors
from vouch.networks.backbone import to_input
from vouch.networks.reward import RewardEnsemble

Row = tuple[torch.Tensor, str, torch.Tensor]
"""An image uint8 [3, S, S], its prompt, and targets [1 + criteria] with nan where nothing is known."""


@dataclass(frozen=True)
class Batch:
    """Images float [N, 3, S, S], encoded prompts [N, P], targets [N, 1 + criteria]."""

    images: torch.Tensor
    prompts: torch.Tensor
    targets: torch.Tensor


class Rows(Protocol):
    """Where rows are drawn from."""

    def draw(self, count: int, rng: random.Random) -> list[Row]: ...


class RatedRows:
    """Rated images with what was said of them."""

    def __init__(self, rated: Rated, learn: Sequence[int], model: RewardEnsemble) -> None:
        self.rated, self.learn, self.model = rated, learn, model
        self.images = _sized(rated.images, model.size)

    def draw(self, count: int, rng: random.Random) -> list[Row]:
        return [self._row(rng.choice(self.learn)) for _ in range(count)]

    def _row(self, i: int) -> Row:
        said = [self.rated.overall, *(self.rated.criteria.get(name) for name in self.model.criteria)]
        target = torch.tensor([math.nan if values is None else float(values[i]) for values in said])
        return self.images[i], self.rated.prompts[i], target


class SwappedRows:
    """Rated images under a class drawn at random: implausible, whatever they show."""

    def __init__(self, rows: RatedRows) -> None:
        self.rows = rows

    def draw(self, count: int, rng: random.Random) -> list[Row]:
        model = self.rows.model
        drawn = self.rows.draw(count, rng)
        return [(image, other(model, prompt, rng), pseudo(model, 0.0)) for image, prompt, _ in drawn]


class RealRows:
    """Real images, by turns with their own caption (plausible) and with another class (implausible)."""

    def __init__(self, real: Examples, model: RewardEnsemble) -> None:
        self.real, self.model = real, model

    def draw(self, count: int, rng: random.Random) -> list[Row]:
        return [self._row(rng.randrange(len(self.real)), number % 2 == 1, rng) for number in range(count)]

    def _row(self, i: int, own: bool, rng: random.Random) -> Row:
        label, attributes = self.real.labels[i], self.real.attributes[i]
        if own:
            return self.real.images[i], random_caption(label, attributes, rng), pseudo(self.model, 1.0)
        return self.real.images[i], other(self.model, label, rng), pseudo(self.model, 0.0)


class Batches:
    """Mixes the sources. Each member draws its own, so that members differ where the data say little."""

    def __init__(
        self, model: RewardEnsemble, parts: Sequence[tuple[Rows, int]], *, symmetric: bool, seed: int
    ) -> None:
        self.model, self.parts, self.symmetric, self.seed = model, parts, symmetric, seed

    def batch(self, member: int, step: int) -> Batch:
        name = (self.seed, "reward", member, step)
        rng, random_ = numbers(*name), tensors(*name)
        rows = [row for source, count in self.parts for row in source.draw(count, rng)]
        images, prompts, targets = zip(*rows, strict=True)
        return Batch(
            augment(torch.stack(images), self.symmetric, random_),
            self.model.encode(prompts),
            torch.stack(targets),
        )


@dataclass(frozen=True)
class Comparison:
    """Two batches of images float [N, 3, S, S] with encoded prompts [N, P]; how often the first was preferred, [N]."""

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
        symmetric: bool,
        seed: int,
    ) -> None:
        self.model, self.pairs, self.learn, self.count = model, pairs, learn, count
        self.symmetric, self.seed = symmetric, seed

    def batch(self, member: int, step: int) -> Comparison:
        name = (self.seed, "pairs", member, step)
        rng, random_ = numbers(*name), tensors(*name)
        rows = rng.choices(self.learn, k=self.count)

        def side(images: torch.Tensor, prompts: Sequence[str]) -> tuple[torch.Tensor, torch.Tensor]:
            shown = augment(_sized(images[rows], self.model.size), self.symmetric, random_)
            return shown, self.model.encode([prompts[row] for row in rows])

        return Comparison(
            *side(self.pairs.first, self.pairs.first_prompts),
            *side(self.pairs.second, self.pairs.second_prompts),
            self.pairs.preferred[rows],
        )


def _sized(images: torch.Tensor, size: int) -> torch.Tensor:
    """uint8 images at the reward's size: a foreign generator's need not have it."""
    return ((to_input(images, size) + 1) * 127.5).round().clamp(0, 255).to(torch.uint8)


def pseudo(model: RewardEnsemble, plausible: float) -> torch.Tensor:
    """Targets of a pseudo-label. A real cell passes every criterion; of a swapped one only the class is known wrong."""
    rest = 1.0 if plausible else math.nan
    return torch.tensor([plausible, *(plausible if name == "cell_type" else rest for name in model.criteria)])


def other(model: RewardEnsemble, prompt: str, rng: random.Random) -> str:
    """A class of the vocabulary that `prompt` does not declare."""
    label = prompt.split(",")[0].strip()
    return rng.choice([name for name in model.vocabulary.labels if name != label] or [label])
