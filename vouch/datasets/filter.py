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

from vouch.datasets.imagesets import ImageSet, Prompting, SourceImage
from vouch.datasets.ledger import Ledger, Row
from vouch.errors import (
    Cancelled,
    DeadlineExceeded,
    Exhausted,
    FailedPrecondition,
    InvalidInput,
    StorageFull,
    Unavailable,
    VouchError,
)
from vouch.formats.images import digest, range_note, windowed
from vouch.formats.intensity import IntensityWindow

WINDOW_IMAGES = 512
WINDOW_BYTES = 64 * 1024 * 1024
NO_PROMPT = "NO_PROMPT"
UNWORDED_IMAGES = 256
"""So many first images without a prompt, and the run is refused; a set with some prompts goes on."""
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


class ScoreItems(Protocol):
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
    override_prompts: bool = False
    """`prompt` takes the place of the images' own prompts too."""
    window: str = ""
    """Grey values LOW:HIGH that images of more than 8 bits are scored with; "" takes their whole range."""

    def __post_init__(self) -> None:
        if self.override_prompts and not self.prompt:
            raise InvalidInput("Overriding prompts needs the prompt that takes their place (--prompt).")
        if self.window:
            IntensityWindow.parse(self.window)
        if not 0.0 <= self.min_score <= 1.0:
            raise InvalidInput(f"The lowest score must lie between 0 and 1, not {self.min_score}.")


@dataclass(frozen=True, kw_only=True)
class FilterProgress:
    """How far a run is: all images of the folder so far, those of earlier runs included."""

    accepted: int
    rejected: int
    failed: int
    skipped: int = 0

    @property
    def done(self) -> int:
        return self.accepted + self.rejected + self.failed + self.skipped


def filter_images(
    images: ImageSet,
    out: Path,
    settings: FilterSettings,
    score: ScoreItems,
    on_progress: Callable[[FilterProgress], None] = lambda _: None,
) -> dict[str, Any]:
    """Scores every image of the set that `out` has no score for, and returns the summary.

    Every item of the set has its row in the ledger: seen = accepted + rejected + failed + skipped. What is wrong with
    one item is said in its row and ends nothing.

    Raises:
        InvalidInput: the set is damaged, or none of its first images has a prompt and none is given.
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
        return ledger.finish(asdict(settings), {"read_as": images.layout, "ignored": dict(images.ignored)})


def _claim(ledger: Ledger, settings: FilterSettings) -> None:
    known = ledger.settings()
    if known is None or not ledger.counts():
        ledger.write_settings({**asdict(settings), "reward_version": ""})
        return
    for name, value in asdict(settings).items():
        if known.get(name, value) != value:  # a run of before a setting existed has none
            raise FailedPrecondition(
                f"{ledger.out} holds a filter run with {name.replace('_', ' ')} {known.get(name)!r},"
                f" not {value!r}."
                " Give the same settings to continue it, or another folder."
            )


def _score_all(
    images: ImageSet,
    ledger: Ledger,
    settings: FilterSettings,
    score: ScoreItems,
    on_progress: Callable[[FilterProgress], None],
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
            _keep(ledger, source, scored, settings)
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
    """Everything that has no score yet; what cannot be scored goes straight to the ledger."""
    held = Unworded(ledger, settings)
    for source in images.images(lambda key: ledger.has(key) or window.holds(key)):
        order = _order(source, settings)
        if isinstance(order, Scored):
            held.add(source, order)
        elif window.put(source):
            held.release()
            yield order
        else:
            return
    held.end()


class Unworded:
    """Rows of what cannot be scored, held back until an image that can is met.

    A set without any usable prompt is refused before anything is kept of it, so that the same command with one starts
    anew.
    """

    def __init__(self, ledger: Ledger, settings: FilterSettings) -> None:
        counts = ledger.counts()
        self._ledger, self._settings = ledger, settings
        self._holds = not (counts["accepted"] or counts["rejected"])
        self._rows: list[Row] = []
        self._without: list[SourceImage] = []

    def add(self, source: SourceImage, order: Scored) -> None:
        """Raises InvalidInput after many images without a prompt and none with one."""
        self._rows.append(_row(source, order, self._settings)[0])
        if order.reason == NO_PROMPT:
            self._without.append(replace(source, data=b""))
        if not self._holds:
            self.release()
        elif len(self._rows) >= UNWORDED_IMAGES:
            self.end()

    def end(self) -> None:
        """Raises InvalidInput if there were images without a prompt and none with one."""
        if self._without and self._holds:
            raise _no_prompt(self._without)
        self.release()

    def release(self) -> None:
        """Keeps the rows, and holds no more back."""
        self._holds = False
        for row in self._rows:
            self._ledger.add(row, b"")
        self._rows = []


def _order(source: SourceImage, settings: FilterSettings) -> Item | Scored:
    """What is sent to be scored, or the reason why nothing is."""
    problem = source.skipped or source.problem
    prompt, _ = Prompting(settings.prompt, settings.override_prompts).choose(source)
    if problem or not prompt:
        reason = "INVALID_INPUT" if problem else NO_PROMPT
        error = problem or source.prompt_problem or "The image has no prompt."
        return Scored(key=source.key, reason=reason, error=error)
    try:
        data = (
            windowed(source.data, IntensityWindow.parse(settings.window)) if settings.window else source.data
        )
        return Item(key=source.key, data=data, prompt=prompt)
    except VouchError as error:
        return Scored(key=source.key, reason=error.reason, error=error.message)


def _no_prompt(images: list[SourceImage]) -> InvalidInput:
    first = images[0]
    if first.prompt_problem:
        return InvalidInput(
            f"The image {first.key} has no prompt that can be read{_and_more(images)}. {first.prompt_problem}"
            " Mend that, or give --prompt with --override-prompts to use one prompt for all images."
        )
    return InvalidInput(
        f"The image {first.key} has no prompt{_and_more(images)}, and a score says how well an image fits its prompt."
        ' Give one for all images (--prompt "neutrophil"), a .txt file beside each image, or a metadata.csv with the'
        " columns file_name and prompt."
    )


def _and_more(images: list[SourceImage]) -> str:
    return f", nor have the {len(images) - 1} that follow it" if len(images) > 1 else ""


def _keep(ledger: Ledger, source: SourceImage, scored: Scored, settings: FilterSettings) -> None:
    """Puts an item's row into the ledger. What fails for this item alone becomes its reason."""
    row, data = _row(source, scored, settings)
    try:
        ledger.add(row, data)
    except VouchError:  # the disk is full, the folder was taken away: no other row would fare better
        raise
    except Exception as error:  # noqa: BLE001 - one odd item must not end the run
        why = f"The image could not be kept ({type(error).__name__}: {error})."
        ledger.add(
            replace(row, status="failed", score=None, score_std=None, criterion_scores={}, error=why), b""
        )


def _row(source: SourceImage, scored: Scored, settings: FilterSettings) -> tuple[Row, bytes]:
    prompt, whose = Prompting(settings.prompt, settings.override_prompts).choose(source)
    row = Row(
        key=source.key,
        digest=digest(source.data) if source.data else "",
        prompt=prompt,
        label=source.label,
        status=_status(source, scored, settings),
        score=scored.score,
        score_std=scored.score_std,
        criterion_scores=dict(scored.criterion_scores),
        reward_version=scored.reward_version,
        error=scored.error,
        prompt_source=whose,
        note="" if scored.score is None else _range_note(source.data, settings),
        warning=source.note,
    )
    return row, source.data


def _status(source: SourceImage, scored: Scored, settings: FilterSettings) -> str:
    if source.skipped:
        return "skipped"
    if scored.score is None:
        return "failed"
    return "accepted" if scored.score >= settings.min_score else "rejected"


def _range_note(data: bytes, settings: FilterSettings) -> str:
    try:
        return range_note(data, IntensityWindow.parse(settings.window) if settings.window else None)
    except InvalidInput:  # the reward service could read it, which is what counts
        return ""


def _progress(ledger: Ledger) -> FilterProgress:
    counts = ledger.counts()
    return FilterProgress(**{name: counts[name] for name in ("accepted", "rejected", "failed", "skipped")})


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
