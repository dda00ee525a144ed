"""Filtering an image set by reward score: accepted images, a ledger of every score, a summary.

The folder that it writes:

    OUT/images/…          the accepted images as they were; metadata.jsonl names prompt and score of each
    OUT/ledger.parquet    one row for every image: accepted, rejected and failed ones
    OUT/summary.json      the counts, the settings, the reward version, a histogram of the scores
    OUT/.filter/          settings and ledger parts of a run under way

An interrupted run continues where it stopped: scores are kept in parts that appear whole, every image is
scored by the one reward version that the run began with, and what has a score is not scored again.

The module knows neither gRPC nor the client: `score` is any function from a stream of items to a stream of
scored items in any order.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, Protocol

from vouch.errors import (
    Cancelled,
    DeadlineExceeded,
    Exhausted,
    FailedPrecondition,
    InvalidInput,
    StorageFull,
    Unavailable,
)
from vouch.filter_ledger import Ledger, Row
from vouch.images import digest
from vouch.imagesets import ImageSet, SourceImage

WINDOW_IMAGES = 512
WINDOW_BYTES = 64 * 1024 * 1024
WORTH_ANOTHER_RUN = frozenset(
    kind.reason for kind in (Unavailable, Exhausted, StorageFull, DeadlineExceeded, Cancelled)
)
"""Reasons that lie with the system; any other lies with the image, which would fail again."""


@dataclass(frozen=True, kw_only=True)
class Item:
    """One encoded image on its way to the reward model."""

    key: str
    data: bytes = field(repr=False)
    prompt: str


@dataclass(frozen=True, kw_only=True)
class Scored:
    """What became of one item: a score, or an error with its reason."""

    key: str
    score: float | None = None
    """Probability that an expert finds the image plausible, 0 to 1."""
    score_std: float | None = None
    criterion_scores: Mapping[str, float] = field(default_factory=dict)
    reward_version: str = ""
    reason: str = ""
    error: str = ""


class Score(Protocol):
    """Scores items with `version` ("" lets the system choose one for the stream); results in any order."""

    def __call__(self, items: Iterable[Item], version: str) -> Iterator[Scored]: ...


@dataclass(frozen=True, kw_only=True)
class FilterSettings:
    """What an output folder was made with; a resumed run must bring the same."""

    source: str
    min_score: float
    prompt: str = ""
    """For images that bring no prompt of their own."""
    version: str = ""
    """Reward model by name or digest; "" takes what serves."""

    def __post_init__(self) -> None:
        if not 0.0 <= self.min_score <= 1.0:
            raise InvalidInput(f"The lowest score must lie between 0 and 1, not {self.min_score}.")


@dataclass(frozen=True, kw_only=True)
class Progress:
    """How far a run is: all images of the folder so far, those of earlier runs included."""

    accepted: int
    rejected: int
    failed: int

    @property
    def done(self) -> int:
        return self.accepted + self.rejected + self.failed


def filter_images(
    images: ImageSet,
    out: Path,
    settings: FilterSettings,
    score: Score,
    on_progress: Callable[[Progress], None] = lambda _: None,
) -> dict[str, Any]:
    """Scores every image of the set that `out` has no score for, and returns the summary.

    Raises:
        InvalidInput: the set is damaged, or its first image has no prompt and none is given.
        FailedPrecondition: `out` belongs to another filter run, or one is under way there.
        Unavailable: some images could not be scored now; the same call scores the rest.
        StorageFull: the disk is full; nothing that was kept is lost.
    """
    with Ledger.open(out) as ledger:
        _claim(ledger, settings)
        on_progress(_progress(ledger))
        missed = _score_all(images, ledger, settings, score, on_progress)
        if missed:
            raise Unavailable(
                f"{len(missed)} images could not be scored now ({missed[0].error or missed[0].reason})."
                " Their places are kept: run the same command again to score the rest."
            )
        return ledger.finish(asdict(settings))


def _claim(ledger: Ledger, settings: FilterSettings) -> None:
    known = ledger.settings()
    if known is None or not ledger.counts():
        ledger.write_settings({**asdict(settings), "reward_version": ""})
        return
    for name, value in asdict(settings).items():
        if known.get(name) != value:
            raise FailedPrecondition(
                f"{ledger.out} holds a filter run with {name.replace('_', ' ')} {known.get(name)!r},"
                f" not {value!r}."
                " Give the same settings to continue it, or another folder."
            )


def _score_all(
    images: ImageSet,
    ledger: Ledger,
    settings: FilterSettings,
    score: Score,
    on_progress: Callable[[Progress], None],
) -> list[Scored]:
    window = Window(WINDOW_IMAGES, WINDOW_BYTES)
    missed: list[Scored] = []
    reading = Reading(_items(images, ledger, settings, window))
    try:
        for scored in score(reading, ledger.reward_version() or settings.version):
            source = window.take(scored.key)
            if scored.score is None and scored.reason in WORTH_ANOTHER_RUN:
                missed.append(scored)
                continue
            if scored.reward_version and not ledger.reward_version():
                ledger.pin(scored.reward_version)
            ledger.add(*_row(source, scored, settings))
            on_progress(_progress(ledger))
    finally:
        window.close()
        ledger.flush()
    if reading.failure:
        raise reading.failure
    return missed


class Reading:
    """Items until their source fails. The failure is kept for the caller: the transport, which draws the
    items in a thread of its own, would report it as a broken stream."""

    def __init__(self, items: Iterator[Item]) -> None:
        self._items = items
        self.failure: Exception | None = None

    def __iter__(self) -> Iterator[Item]:
        try:
            yield from self._items
        except Exception as error:  # noqa: BLE001 - raised again by whoever reads `failure`
            self.failure = error


def _items(images: ImageSet, ledger: Ledger, settings: FilterSettings, window: Window) -> Iterator[Item]:
    """Everything that has no score yet; unreadable images go straight to the ledger."""
    first = True
    for source in images.images(lambda key: ledger.has(key) or window.holds(key)):
        prompt = source.prompt or settings.prompt
        if first and not prompt:
            raise InvalidInput(
                f"The image {source.key} has no prompt, and a score says how well an image fits its prompt."
                ' Give one for all images (--prompt "neutrophil"), or a .txt file beside each image.'
            )
        first = False
        source = replace(source, prompt=prompt)
        if source.problem or not prompt:
            problem = source.problem or "The image has no prompt."
            ledger.add(*_row(source, Scored(key=source.key, reason="INVALID_INPUT", error=problem), settings))
        elif window.put(source):
            yield Item(key=source.key, data=source.data, prompt=prompt)
        else:
            return


def _row(source: SourceImage, scored: Scored, settings: FilterSettings) -> tuple[Row, bytes]:
    accepted = scored.score is not None and scored.score >= settings.min_score
    status = "accepted" if accepted else "rejected" if scored.score is not None else "failed"
    row = Row(
        key=source.key,
        digest=digest(source.data) if source.data else "",
        prompt=source.prompt,
        label=source.label,
        status=status,
        score=scored.score,
        score_std=scored.score_std,
        criterion_scores=dict(scored.criterion_scores),
        reward_version=scored.reward_version,
        error=scored.error,
    )
    return row, source.data


def _progress(ledger: Ledger) -> Progress:
    counts = ledger.counts()
    return Progress(accepted=counts["accepted"], rejected=counts["rejected"], failed=counts["failed"])


class Window:
    """The images in flight, bounded in number and bytes, so that a fast disk cannot outrun the model."""

    def __init__(self, images: int, size_bytes: int) -> None:
        self._images = images
        self._bytes = size_bytes
        self._held: dict[str, SourceImage] = {}
        self._held_bytes = 0
        self._closed = False
        self._changed = threading.Condition()

    def put(self, image: SourceImage) -> bool:
        """Waits for room. False when the window was closed meanwhile."""
        with self._changed:
            self._changed.wait_for(lambda: self._closed or self._fits(image))
            if self._closed:
                return False
            self._held[image.key] = image
            self._held_bytes += len(image.data)
            return True

    def _fits(self, image: SourceImage) -> bool:
        room = len(self._held) < self._images and self._held_bytes + len(image.data) <= self._bytes
        return room or not self._held  # an image larger than the window goes alone

    def holds(self, key: str) -> bool:
        return key in self._held

    def take(self, key: str) -> SourceImage:
        with self._changed:
            image = self._held.pop(key)
            self._held_bytes -= len(image.data)
            self._changed.notify_all()
            return image

    def close(self) -> None:
        with self._changed:
            self._closed = True
            self._changed.notify_all()
