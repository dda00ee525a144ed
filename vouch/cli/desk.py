"""The state machine of rating at a terminal: open question, effect of each key, end of an image.

It depends neither on gRPC nor on the display, so that tests drive every path with a string of keys.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Protocol

from vouch.cli.keys import Keys

ANSWER_KEYS: Mapping[str, str] = {"y": "pass", "n": "fail", "u": "unsure"}
VERDICT_KEYS: Mapping[str, str] = {"y": "plausible", "n": "implausible", "u": "unsure"}
HELP = "y yes · n no · u unsure · b back · ? help · t note · s skip image · q quit"


@dataclass(frozen=True, kw_only=True)
class Question:
    """One criterion as shown to the rater."""

    id: str
    text: str
    help: str = ""


@dataclass(frozen=True, kw_only=True)
class Exhibit:
    """An image to rate, without its origin."""

    digest: str
    data: bytes = field(repr=False)
    prompt: str


@dataclass(frozen=True, kw_only=True)
class Judgement:
    """The rater's answers for one image."""

    image: str
    answers: Mapping[str, str]
    verdict: str
    text: str
    duration_ms: int
    supersedes: str = ""


class Screen(Protocol):
    """The display of the rater."""

    def show(self, exhibit: Exhibit, number: int) -> None: ...
    def ask(self, text: str) -> None: ...
    def note(self, text: str) -> None: ...


class Quit(Exception):
    """The rater pressed q, or the input ended."""


class Back(Exception):
    """Back from the first question: reopen the previous image."""


class Skip(Exception):
    """Leave this image to other raters."""


@dataclass
class RatingTally:
    """Counts of a rating session."""

    rated: int = 0
    corrected: int = 0
    skipped: int = 0
    rating_ids: list[str] = field(default_factory=list)


class Desk:
    """Shows images one after another and records a verdict for each.

    `record` stores a verdict durably and returns the id of the rating; going back from the first question of an
    image reopens the one before, and its new verdict supersedes the old. overall: the last question, about the image as
    a whole; None leaves it open.
    """

    def __init__(
        self,
        questions: tuple[Question, ...],
        keys: Keys,
        screen: Screen,
        record: Callable[[Judgement], str],
        clock: Callable[[], float] = time.monotonic,
        overall: str | None = "All in all, is the image plausible?",
    ) -> None:
        self._questions, self._overall = questions, overall
        self._asked = len(questions) + (overall is not None)
        self._keys = keys
        self._screen = screen
        self._record = record
        self._clock = clock
        self._done: list[tuple[Exhibit, str]] = []
        self.tally = RatingTally()

    def rate(self, exhibits: Iterator[Exhibit]) -> RatingTally:
        """Rates until the images or the rater's input end."""
        try:
            for exhibit in exhibits:
                self._rate_one(exhibit, "")
        except Quit:
            pass  # an unfinished image is not rated
        return self.tally

    def _rate_one(self, exhibit: Exhibit, supersedes: str) -> None:
        while True:
            try:
                verdict = self._judge(exhibit, supersedes)
            except Skip:
                self.tally.skipped += 0 if supersedes else 1
                return
            except Back:
                self._reopen_previous(supersedes)
                if supersedes:
                    return
                continue
            rating_id = self._record(verdict)
            self._count(exhibit, rating_id, bool(supersedes))
            return

    def _reopen_previous(self, supersedes: str) -> None:
        if supersedes or not self._done:
            self._screen.note("There is no earlier image to go back to.")
            return
        previous, rating_id = self._done.pop()
        self._rate_one(previous, rating_id)

    def _count(self, exhibit: Exhibit, rating_id: str, correction: bool) -> None:
        self._done.append((exhibit, rating_id))
        self.tally.rating_ids.append(rating_id)
        if correction:
            self.tally.corrected += 1
        else:
            self.tally.rated += 1

    def _judge(self, exhibit: Exhibit, supersedes: str) -> Judgement:
        self._screen.show(exhibit, self.tally.rated + self.tally.skipped + 1)
        started = self._clock()
        answers: list[str] = []
        text = ""
        while len(answers) < self._asked:
            key = self._ask(len(answers))
            if key == "b":
                if not answers:
                    raise Back
                answers.pop()
            elif key == "t":
                self._screen.note("Note, then Enter:")
                text = self._keys.line()
            else:
                answers.append(key)
        given = answers[: len(self._questions)]
        return Judgement(
            image=exhibit.digest,
            answers={q.id: ANSWER_KEYS[key] for q, key in zip(self._questions, given, strict=True)},
            verdict="unsure" if self._overall is None else VERDICT_KEYS[answers[-1]],
            text=text,
            duration_ms=round(1000 * (self._clock() - started)),
            supersedes=supersedes,
        )

    def _ask(self, number: int) -> str:
        """The next valid key."""
        question = self._questions[number] if number < len(self._questions) else None
        self._screen.ask(f"{number + 1}/{self._asked} " + (question.text if question else str(self._overall)))
        while True:
            key = self._keys.press()
            if key in ("", "q"):
                raise Quit
            if key == "s":
                raise Skip
            if key in ANSWER_KEYS or key in ("b", "t"):
                return key
            self._screen.note(question.help if key == "?" and question and question.help else HELP)
