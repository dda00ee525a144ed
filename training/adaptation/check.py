"""The check of a data set that runs before anything learns from it. It reads, and never edits or deletes.

report = check_data("chests", ReadOptions(load_domain("chest_xray")), size=224)
report.refuse()        # raises with the first error
"""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import numpy.typing as npt

from training.adaptation.duplicates import Thumbnail, groups_of, near_pairs, thumbnail
from training.adaptation.findings import EXAMPLES, DataReport, Finding, Severity
from training.adaptation.images import CaptionedImage, ReadOptions, read_images
from training.adaptation.splits import FEWEST_GROUPS
from vouch.datasets.imagesets import open_image_set
from vouch.errors import InvalidInput
from vouch.formats import images as codec
from vouch.formats.intensity import IntensityWindow

FEWEST = 5
"""Images below which nothing can be learned, not even a word by textual inversion."""
FEWEST_OF_LABEL = 5
FEWEST_VALIDATION = 20
"""Images below which a validation loss says little about when to stop."""
LEAST_UNSEEN = 20
"""Validating images below which no limit of the copy alarm can be set."""
GREY_CHROMA = 1.0
"""Mean of largest less smallest channel, of 255, up to which an image has no colour: JPEG alone makes less."""
TINT_CHROMA = 24.0
"""Up to which, in a set of grey images, colour is a tint and no picture of another kind."""
MOSTLY = 0.9
FEWEST_IDENTIFIED = 10
"""Captions below which a word of their own in each is no sign of an identifier."""
MOST_WORDS = 60
"""Words of a caption, of which CLIP's text encoder reads 77 tokens."""
WIDE = 1.5
"""Proportion of the sides beyond which a square crop loses a third of the image."""
BLANK_SPREAD = 1.0
"""Standard deviation of grey values, of 255, below which nothing is to be seen."""

_WORD, _DIGIT = re.compile(r"[\w^.-]+"), re.compile(r"\d")

Progress = Callable[[int], None]


@dataclass(frozen=True)
class Checked:
    """What is kept of an image once it has been looked at: no pixels."""

    image: CaptionedImage
    """Without its data."""
    width: int = 0
    height: int = 0
    chroma: float = 0.0
    spread: float = 0.0
    """Standard deviation of its grey values."""
    thumbnail: Thumbnail | None = None
    range_note: str = ""
    """What is to be said where it uses a small part of its range."""

    @property
    def key(self) -> str:
        return self.image.key


def check_data(
    path: Path | str,
    reading: ReadOptions,
    size: int | None = None,
    accept: Collection[str] = (),
    on_progress: Progress = lambda _: None,
) -> DataReport:
    """Looks at every image of the set once.

    size: pixels a side that training will use. accept: codes of errors that are only warned of.

    Raises:
        InvalidInput: nothing there, or a damaged archive or table.
    """
    rows: list[Checked] = []
    for number, image in enumerate(read_images(path, reading), start=1):
        rows.append(looked_at(image, reading.window))
        on_progress(number)
    good = [row for row in rows if not row.image.problem]
    findings = sorted(
        _findings(rows, good, reading, size), key=lambda f: ("error", "warning", "note").index(f.severity)
    )
    return _report(path, rows, good, tuple(_accepted(finding, accept) for finding in findings))


def looked_at(image: CaptionedImage, window: IntensityWindow | None = None) -> Checked:
    """Size, colour, thumbnail and range of an image; its problem where it cannot be decoded.

    window: values that are black and white in images of more than 8 bits.
    """
    bare = replace(image, data=b"")
    if image.problem:
        return Checked(bare)
    try:
        pixels = codec.decode(image.data, window)
        dark = codec.range_note(image.data, window)
    except InvalidInput as error:
        return Checked(replace(bare, problem=error.message))
    height, width = pixels.shape[:2]
    chroma = float((pixels.max(2).astype(np.int16) - pixels.min(2)).mean())
    return Checked(bare, width, height, chroma, float(_grey(pixels).std()), thumbnail(pixels), dark)


def _grey(pixels: npt.NDArray[np.uint8]) -> npt.NDArray[np.float32]:
    return pixels.mean(2, dtype=np.float32)


def _findings(
    rows: Sequence[Checked], good: Sequence[Checked], reading: ReadOptions, size: int | None
) -> Iterator[Finding]:
    yield from _unreadable(rows)
    yield from _captions(good)
    yield from _numbers(good)
    yield from _patients(good)
    yield from _duplicates(good)
    yield from _colours(good, reading.domain.image.grey)
    yield from _sizes(good, size or reading.domain.image.size)
    yield from _notes(good)


def _found(code: str, severity: Severity, message: str, rows: Iterable[str]) -> Iterator[Finding]:
    """The finding, where it concerns anything. message: "{n}" stands for how many."""
    keys = list(rows)
    if keys:
        shown = tuple(keys[:EXAMPLES])
        yield Finding(code, severity, message.replace("{n}", str(len(keys))), len(keys), shown)


def _unreadable(rows: Sequence[Checked]) -> Iterator[Finding]:
    by_reason: dict[str, list[str]] = defaultdict(list)
    for row in rows:
        if row.image.problem:
            by_reason[row.image.problem].append(row.key)
    for reason, keys in sorted(by_reason.items(), key=lambda pair: -len(pair[1])):
        yield from _found("unreadable", "warning", f"{{n}} images cannot be read: {reason}", keys)


def _captions(good: Sequence[Checked]) -> Iterator[Finding]:
    bare = [row.key for row in good if not row.image.captions]
    some: Severity = "error" if good and len(bare) == len(good) else "warning"
    yield from _found("no-caption", some, "{n} images have no caption, and teach nothing.", bare)
    said = Counter(row.image.captions[0] for row in good if row.image.captions)
    if len(said) == 1 and sum(said.values()) > 1:
        (only,) = said
        message = f"Every caption is {only!r}: the model learns that one word, and nothing that a prompt could vary."
        yield Finding("one-caption", "warning", message, sum(said.values()))
    long = (row.key for row in good if any(len(c.split()) > MOST_WORDS for c in row.image.captions))
    yield from _found(
        "long-caption",
        "warning",
        f"{{n}} captions have more than {MOST_WORDS} words; a CLIP text encoder reads 77 tokens.",
        long,
    )
    yield from _identifiers(good)
    yield from _folders(good)


def _identifiers(good: Sequence[Checked]) -> Iterator[Finding]:
    captioned = [row for row in good if row.image.captions]
    alone = identified([row.image.captions[0] for row in captioned])
    if len(captioned) >= FEWEST_IDENTIFIED and sum(alone) > MOSTLY * len(captioned):
        message = (
            "{n} captions hold a word that no other caption has, such as a number or a name: an identifier teaches "
            "nothing that a prompt can ask for, and may name a person. Take it out of the captions."
        )
        keys = (row.key for row, one in zip(captioned, alone, strict=True) if one)
        yield from _found("identifier-in-captions", "warning", message, keys)


def identified(captions: Sequence[str]) -> list[bool]:
    """Whether each caption holds an identifier: words that no other has, and either one of them has a digit, or they
    are the smaller part and without them it says the same as another. A rare word of a free text is none."""
    words = [frozenset(_WORD.findall(caption.lower())) for caption in captions]
    seen = Counter(word for own in words for word in own)
    rare = [frozenset(word for word in own if seen[word] == 1) for own in words]
    rests = [own - some for own, some in zip(words, rare, strict=True)]
    alike = Counter(rests)
    return [
        any(map(_DIGIT.search, some)) or (0 < len(some) <= len(rest) and alike[rest] > 1)
        for some, rest in zip(rare, rests, strict=True)
    ]


def _folders(good: Sequence[Checked]) -> Iterator[Finding]:
    """Of folders' names as captions. Those that are not taken are not shown: they may be names of patients."""
    if unused := sum(row.image.folder_unused for row in good):
        message = (
            f"{unused} images without words lie in folders whose names are not taken as captions: of DICOM files, "
            "and beside images with words of their own, they may name patients. Give captions in a metadata.csv."
        )
        yield Finding("folder-names-unused", "warning", message, unused)
    folders = sorted({row.image.label for row in good if row.image.from_folder})
    named = [row for row in good if row.image.from_folder]
    if folders and len(folders) > max(1, len(named) // 2):
        message = f"{len(folders)} folders of {len(named)} images are read as classes. Give captions in a metadata.csv."
        yield Finding("folders-as-classes", "error", message, len(folders), tuple(folders[:EXAMPLES]))
    elif folders:
        message = f"{len(named)} captions are the names of {len(folders)} folders."
        yield Finding("captions-from-folders", "note", message, len(named), tuple(folders[:EXAMPLES]))


def _numbers(good: Sequence[Checked]) -> Iterator[Finding]:
    teaching = [row for row in good if row.image.captions and row.image.split == "train"]
    if len(teaching) < FEWEST:
        message = (
            f"Only {len(teaching)} images can teach; {FEWEST} are the fewest that any recipe learns from."
        )
        yield Finding("too-few", "error", message, len(teaching))
    labels = Counter(row.image.label for row in teaching if row.image.label)
    few = [f"{label} ({count})" for label, count in sorted(labels.items()) if count < FEWEST_OF_LABEL]
    if len(labels) > 1:
        yield from _found(
            "few-of-label", "warning", f"{{n}} labels have fewer than {FEWEST_OF_LABEL} training images.", few
        )
    if len(teaching) >= FEWEST:
        yield from _validation(good)


def _validation(good: Sequence[Checked]) -> Iterator[Finding]:
    validating = sum(row.image.split == "val" for row in good if row.image.captions)
    if not validating:
        message = (
            "No image validates, so the last weights are kept. A set is divided from "
            f"{FEWEST_GROUPS} patients on (or images whose patient is not known), unless a column `split` divides it."
        )
        yield Finding("few-validation", "note", message)
    elif validating < FEWEST_VALIDATION:
        message = f"{validating} images validate: their loss says little about when to stop."
        yield Finding("few-validation", "note", message, validating)
    if validating < LEAST_UNSEEN:
        message = (
            f"{validating} images validate, and {LEAST_UNSEEN} are needed to recognise copies: nothing keeps the model "
            "from learning training images by heart."
        )
        yield Finding("no-copy-guard", "warning", message, validating)


def _patients(good: Sequence[Checked]) -> Iterator[Finding]:
    splits: dict[str, set[str]] = defaultdict(set)
    first: dict[str, str] = {}
    for row in good:
        if row.image.patient:
            splits[row.image.patient].add(row.image.split)
            first.setdefault(row.image.patient, row.key)
    message = "{n} patients have images in more than one split: what validates has been seen."
    torn = [first[patient] for patient, names in splits.items() if len(names) > 1]
    yield from _found("patient-in-two-splits", "error", message, torn)
    known = sum(bool(row.image.patient) for row in good)
    if good and not known:
        message = (
            "No patient is known, so images of one patient may lie on both sides of the validation split."
        )
        yield Finding("no-patients", "note", message)
    elif 0 < known < len(good):
        nobody = (row.key for row in good if not row.image.patient)
        yield from _found(
            "no-patients", "warning", "{n} images name no patient; each counts as one of its own.", nobody
        )
    if len(splits) == 1 and len(good) > FEWEST:
        message = "All images name the same patient, as after a removal of names: they cannot be divided by patients."
        yield Finding("one-patient", "warning", message, known)


def _duplicates(good: Sequence[Checked]) -> Iterator[Finding]:
    same: dict[str, list[int]] = defaultdict(list)
    for number, row in enumerate(good):
        same[row.image.digest].append(number)
    exact = [tuple(rows) for rows in same.values() if len(rows) > 1]
    yield from _grouped(good, exact, "exact-duplicates", "the same byte by byte")
    rows = [numbers[0] for numbers in same.values() if good[numbers[0]].spread >= BLANK_SPREAD]
    thumbnails = [image for row in rows if (image := good[row].thumbnail) is not None]
    near = [tuple(rows[place] for place in group) for group in groups_of(near_pairs(thumbnails))]
    yield from _grouped(good, near, "near-duplicates", "nearly the same picture")
    yield from _found("blank", "warning", "{n} images are of one grey: nothing is to be seen.",
                      (row.key for row in good if row.spread < BLANK_SPREAD))  # fmt: skip


def _grouped(
    good: Sequence[Checked], groups: Sequence[tuple[int, ...]], code: str, how: str
) -> Iterator[Finding]:
    """Groups of duplicates, and what is worse: those in two splits, of two patients, under two captions."""
    shown = [" = ".join(good[row].key for row in group[:2]) for group in groups]
    extra = sum(len(group) - 1 for group in groups)
    yield from _found(code, "warning", f"{{n}} groups of images are {how}: {extra} images too many.", shown)

    def differing(of: Callable[[CaptionedImage], object]) -> list[str]:
        return [text for text, group in zip(shown, groups, strict=True)
                if len({value for row in group if (value := of(good[row].image))}) > 1]  # fmt: skip

    torn = differing(lambda image: image.split)
    certain: Severity = "error" if code == "exact-duplicates" else "warning"
    message = f"{{n}} images that are {how} lie in more than one split."
    yield from _found(f"{code}-in-two-splits", certain, message, torn)
    patients = differing(lambda image: image.patient)
    yield from _found(
        f"{code}-of-two-patients",
        "warning",
        f"{{n}} images that are {how} name different patients.",
        patients,
    )
    words = differing(lambda image: image.captions[:1])
    yield from _found(
        f"{code}-under-two-captions",
        "warning",
        f"{{n}} images that are {how} have different captions.",
        words,
    )


def _colours(good: Sequence[Checked], grey: bool) -> Iterator[Finding]:
    coloured = [row for row in good if row.chroma > GREY_CHROMA]
    if not grey and len(good) - len(coloured) < MOSTLY * len(good):
        return  # a set of colour images
    tinted = [row.key for row in coloured if row.chroma <= TINT_CHROMA]
    message = "{n} images of a grey set are tinted: the model learns the tint. Convert them to grey."
    yield from _found("tinted-grey", "warning", message, tinted)
    others = [row.key for row in coloured if row.chroma > TINT_CHROMA]
    yield from _found(
        "colour-in-grey",
        "warning",
        "{n} images of a grey set are in colour: are they of another kind?",
        others,
    )


def _sizes(good: Sequence[Checked], size: int | None) -> Iterator[Finding]:
    if size:
        small = [row.key for row in good if min(row.width, row.height) < size]
        yield from _found(
            "smaller-than-size",
            "warning",
            f"{{n}} images have a side below {size} pixels and are enlarged: they teach blur.",
            small,
        )
    wide = [row.key for row in good if max(row.width, row.height) > WIDE * min(row.width, row.height)]
    yield from _found(
        "not-square",
        "warning",
        f"{{n}} images are more than {WIDE} times as long as wide: a square crop cuts them.",
        wide,
    )
    sides = [min(row.width, row.height) for row in good]
    if sides and max(sides) > 4 * min(sides):
        message = (
            f"The shorter sides are {min(sides)} to {max(sides)} pixels: sharpness will vary with the source."
        )
        yield Finding("size-spread", "warning", message, len(sides))


def _notes(good: Sequence[Checked]) -> Iterator[Finding]:
    by_note: dict[str, list[str]] = defaultdict(list)
    for row in good:
        if row.image.note:
            by_note[row.image.note].append(row.key)
    dark = [row for row in good if row.range_note]
    if dark:
        message = f"{{n}} images use a small part of their range. Of the first: {dark[0].range_note}"
        yield from _found("small-range", "warning", message, (row.key for row in dark))
    for note, keys in by_note.items():
        yield from _found("look-at", "warning", f"{{n}} images: {note}", keys)


def _accepted(finding: Finding, accept: Collection[str]) -> Finding:
    accepted = finding.severity == "error" and finding.code in accept
    return (
        replace(finding, severity="warning", message=f"{finding.message} (accepted)") if accepted else finding
    )


def _report(
    path: Path | str, rows: Sequence[Checked], good: Sequence[Checked], findings: tuple[Finding, ...]
) -> DataReport:
    taught = [row for row in good if row.image.captions]
    by_side = sorted(good, key=lambda row: min(row.width, row.height))
    sizes = [(row.width, row.height) for row in by_side] or [(0, 0)]
    return DataReport(
        path=str(path),
        read_as=open_image_set(path).layout,
        seen=len(rows),
        readable=len(good),
        captioned=len(taught),
        splits=dict(Counter(row.image.split for row in taught)),
        patients=len({row.image.patient for row in good if row.image.patient}),
        labels=dict(Counter(row.image.label for row in taught if row.image.label).most_common()),
        captions=len({row.image.captions[0] for row in taught}),
        smallest=sizes[0],
        largest=sizes[-1],
        grey=sum(row.chroma <= GREY_CHROMA for row in good),
        findings=findings,
    )
