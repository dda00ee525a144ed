"""What is asked for and when: the same seed is the same trace, for whoever has to answer it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from benchmarks.serving.asks import Ask
from vouch.models.captions import Vocabulary, caption

GUIDANCE = (1.0, 3.0)  # off for one half of the requests, on for the other
PROMPTS = 64  # different ones in a mix


@dataclass(frozen=True)
class Mix:
    """What requests are made of; every combination is equally likely."""

    prompts: Sequence[str]
    counts: Sequence[int] = (1, 2, 3, 4)
    steps: Sequence[int] = (10, 20, 30, 50)
    guidance: Sequence[float] = GUIDANCE

    @property
    def mean_image_steps(self) -> float:
        """Of a request, in the long run."""
        return float(
            np.mean(
                [
                    Ask("", c, 0, s, g).image_steps
                    for c in self.counts
                    for s in self.steps
                    for g in self.guidance
                ]
            )
        )

    def asks(self, seed: int) -> Iterator[Ask]:
        """Requests without end. No two share an image's seed."""
        random = np.random.default_rng(seed)
        first = seed * 1_000_000
        while True:
            yield Ask(
                prompt=str(random.choice(self.prompts)),
                count=int(random.choice(self.counts)),
                seed=first,
                steps=int(random.choice(self.steps)),
                guidance=float(random.choice(self.guidance)),
            )
            first += max(self.counts)


@dataclass(frozen=True)
class Arrival:
    """A request that comes `at_s` seconds after the trace began, whatever became of those before."""

    at_s: float
    ask: Ask


def poisson(mix: Mix, *, per_s: float, seconds: float, seed: int) -> list[Arrival]:
    """The requests of `seconds`, `per_s` of them in a second on average, with exponential gaps between them."""
    random = np.random.default_rng([seed, 1])  # another stream than the one that chooses what is asked for
    arrivals: list[Arrival] = []
    at_s = random.exponential(1 / per_s)
    for ask in mix.asks(seed):
        if at_s >= seconds:
            break
        arrivals.append(Arrival(float(at_s), ask))
        at_s += random.exponential(1 / per_s)
    return arrivals


def prompts_of(folder: Path) -> tuple[str, ...]:
    """Prompts from the vocabulary of the model in `folder`: each a label with one attribute."""
    vocabulary = Vocabulary.load(folder)
    if vocabulary is None:
        raise ValueError(f"{folder} has no vocabulary to make prompts of")
    random = np.random.default_rng(0)
    names = sorted(vocabulary.attributes)

    def prompt() -> str:
        name = str(random.choice(names))
        value = str(random.choice(vocabulary.attributes[name]))
        return caption(str(random.choice(vocabulary.labels)), {name: value})

    return tuple(prompt() for _ in range(PROMPTS))
