"""How captions are worded: a label in several sentences, so that no model learns one sentence by heart."""

from __future__ import annotations

import random
from collections.abc import Mapping
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field

PLACE = "{label}"
Wording = Annotated[str, Field(max_length=300, pattern=r"^[^{}]*\{label\}[^{}]*$")]
Sentences = Annotated[tuple[Wording, ...], Field(max_length=100)]


class Wordings(BaseModel):
    """Sentences with `{label}` where the label's phrase goes.

    Example:
        Wordings(wordings=("chest x-ray, {label}",)).say("effusion", 0) == "chest x-ray, effusion"
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    wordings: Annotated[tuple[Wording, ...], Field(min_length=1, max_length=100)] = (PLACE,)
    """Those that training draws from. The first is the plainest: what an image is asked for by default."""
    held_out: Sentences = ()
    """Those that training never sees: they measure whether a prompt is understood or remembered."""
    negations: Sentences = ()
    """Those that deny a label, such as "chest x-ray without {label}"."""
    absent: str = Field(default="", max_length=300)
    """The label of images on which nothing is found. Negations describe these."""
    phrases: Mapping[str, str] = Field(default_factory=dict, max_length=1000)
    """Words for labels that do not read well in a sentence: {"normal": "clear lungs"}."""

    def phrase(self, label: str) -> str:
        """The words for a label."""
        return self.phrases.get(label, label)

    def say(self, label: str, wording: int = 0) -> str:
        """The label in the wording of this number."""
        return self.wordings[wording].replace(PLACE, self.phrase(label))

    def draw(self, label: str, rng: random.Random) -> str:
        """The label in one of the wordings, each as likely."""
        return self.say(label, rng.randrange(len(self.wordings)))

    def every(self, label: str) -> tuple[str, ...]:
        """The label in all wordings that training sees."""
        return tuple(self.say(label, number) for number in range(len(self.wordings)))

    def unseen(self, label: str) -> tuple[str, ...]:
        """The label in the wordings that training never sees."""
        return tuple(wording.replace(PLACE, self.phrase(label)) for wording in self.held_out)

    def deny(self, label: str) -> tuple[str, ...]:
        """Sentences that say the label is not there."""
        return tuple(wording.replace(PLACE, self.phrase(label)) for wording in self.negations)
