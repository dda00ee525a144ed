"""What the experiment's images are called, and what its models are asked for.

The foundation model reads of cells and of five other kinds of medical image. It knows "x-ray", of hands, and "chest",
from computed tomography; no caption of its data names both. Chest radiographs are worded by the domain `chest_xray`:
four wordings teach, a fifth is held out, and negations ask for what is absent.
"""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt

from vouch.domains.criteria import Domain
from vouch.models.captions import caption

Kind = Literal["trained", "held out", "negation"]

CELLS = ("{}", "a {}", "microscope image of a {}", "stained blood smear, {}", "a photo of one {}")
KINDS = ("{}", "{}, grey", "a photo of {}", "medical image, {}", "one slice or film: {}")
MODALITIES = {
    "computed tomography": ("computed tomography", "ct"),
    "magnetic resonance": ("magnetic resonance", "mr"),
    "x-ray": ("x-ray", "radiograph"),
}
LIGHT = ("dark", "", "bright")
"""Words for the lowest, middle and highest third of mean brightness within a label."""


@dataclass(frozen=True)
class Prompt:
    """A prompt and what should be seen: images of `label`.

    Example: ``Prompt("chest x-ray without viral pneumonia", "normal", "negation")``
    """

    text: str
    label: str
    kind: Kind


def prompts(domain: Domain, labels: Sequence[str]) -> tuple[Prompt, ...]:
    """Every prompt of the experiment: each label in the wordings that teach, in those held out, and, for each finding,
    the negations, which should show the label on which nothing is found."""
    words = domain.captions
    asked = [Prompt(text, label, "trained") for label in labels for text in words.every(label)]
    asked += [Prompt(text, label, "held out") for label in labels for text in words.unseen(label)]
    findings = [label for label in labels if words.absent and label != words.absent]
    return (*asked, *(Prompt(text, words.absent, "negation") for one in findings for text in words.deny(one)))


def training_captions(domain: Domain, label: str, labels: Sequence[str]) -> tuple[str, ...]:
    """The captions that a chest radiograph of this label teaches with: its wordings, and on images without a finding
    the first negation of each finding. The other negations are held out."""
    words = domain.captions
    denied = (
        [words.deny(one)[0] for one in labels if one != label]
        if label == words.absent and words.negations
        else []
    )
    return (*words.every(label), *denied)


def cell_captions(label: str, attributes: Mapping[str, str], count: int, seed: int) -> tuple[str, ...]:
    """`count` captions of a cell, in several wordings and with none, some or all of its attributes."""
    rng, names = random.Random(seed), list(attributes)
    told = []
    for number in range(count):
        most = (0, 2, len(names))[number % 3]
        chosen = rng.sample(names, min(most, len(names)))
        words = rng.choice(CELLS).format(label)
        told.append(caption(words, {name: attributes[name] for name in chosen}))
    return tuple(told)


def kind_captions(label: str, light: str, count: int, seed: int) -> tuple[str, ...]:
    """`count` captions of an image of mednist64, such as "x-ray of the hand": modality and body part in several words,
    and how light it is. light: one of LIGHT."""
    modality, _, part = label.partition(" of the ")
    rng, told = random.Random(seed), []
    for _ in range(count):
        how = rng.choice(MODALITIES[modality])
        names = rng.choice((f"{how} of the {part}", f"{part} {how}", f"{part}, {how}"))
        words = rng.choice(KINDS).format(names)
        told.append(f"{words}, {light}" if light and rng.random() < 0.5 else words)
    return tuple(told)


def light_of(brightness: npt.NDArray[np.floating], labels: Sequence[str]) -> tuple[str, ...]:
    """The word of LIGHT for each image's mean brightness [N], by thirds within its label."""
    words = [""] * len(labels)
    for label in set(labels):
        rows = [row for row, other in enumerate(labels) if other == label]
        low, high = np.quantile(brightness[rows], (1 / 3, 2 / 3))
        for row in rows:
            words[row] = LIGHT[int(brightness[row] > low) + int(brightness[row] > high)]
    return tuple(words)
