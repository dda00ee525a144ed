"""One contender under one load: what became of every request."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from benchmarks.serving.alone import AloneTimes
from benchmarks.serving.page import Page
from benchmarks.serving.replay import Outcome

SATURATION = "saturation"


@dataclass(frozen=True)
class Answer:
    """Seconds. `took_s` is None for a request that failed or was abandoned."""

    at_s: float
    took_s: float | None
    images: int
    image_steps: int
    alone_s: float

    @classmethod
    def of(cls, outcome: Outcome, alone: AloneTimes) -> Answer:
        ask = outcome.ask
        took_s = None if outcome.took_s is None else round(outcome.took_s, 4)
        return cls(round(outcome.at_s, 4), took_s, ask.count, ask.image_steps, round(alone.seconds(ask), 4))


@dataclass(frozen=True)
class ServingRun:
    """Rates count what ended between `begin_s` and `end_s`; `seconds` is how long the load lasted."""

    contender: str
    load: str  # "at_60" is 60 % of the bare limit, "saturation" a closed loop
    repeat: int
    seconds: float
    begin_s: float
    end_s: float
    answers: Sequence[Answer]
    errors: Sequence[str] = ()  # different ones, a few
    page: Page = field(default_factory=dict)

    def as_json(self) -> dict[str, Any]:
        answers = [list(asdict(answer).values()) for answer in self.answers]
        return {**vars(self), "answers": answers, "errors": list(self.errors)}

    @classmethod
    def from_json(cls, found: dict[str, Any]) -> ServingRun:
        answers = [Answer(*answer) for answer in found["answers"]]
        return cls(**{**found, "answers": answers, "errors": tuple(found["errors"])})

    @property
    def unanswered(self) -> int:
        return sum(answer.took_s is None for answer in self.answers)


def name_of(share: float) -> str:
    """The load of an open loop at this share of the bare limit."""
    return f"at_{share * 100:.0f}"
