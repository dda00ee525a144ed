"""Captioned images in every form that people have them, one at a time and still encoded.

A folder with `metadata.csv` or `.jsonl`, class folders, Parquet, WebDataset and DICOM are read by
`vouch.datasets.imagesets`; here they get a caption, a patient and a split.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path

from training.adaptation.splits import GENERIC, VALIDATION_SHARE, Split, assigned_split, named_split
from vouch.datasets.imagesets import SourceImage, open_image_set
from vouch.domains.criteria import Domain
from vouch.formats.intensity import IntensityWindow
from vouch.models.captions import caption

SPLIT_COLUMN = "split"
PROBED = 64
"""First images that tell whether there is a column of splits at all."""


@dataclass(frozen=True)
class Reading:
    """How an image set is read."""

    domain: Domain
    window: IntensityWindow | None = None
    """Values that are black and white in DICOM files; None: each file's own."""
    share: float = VALIDATION_SHARE
    """Share of patients that validate, where the data state no validation split."""
    seed: int = 0


@dataclass(frozen=True)
class CaptionedImage:
    """One image of a set with its words.

    Example:
        CaptionedImage(key="train/effusion/1.png", captions=("effusion", "chest x-ray, effusion"), label="effusion", …)
    """

    key: str
    data: bytes = field(repr=False)
    """Encoded; empty where `problem` says why."""
    captions: tuple[str, ...] = ()
    """The sentences that describe it, the plainest first: its own text alone, or its label in the domain's wordings."""
    label: str = ""
    patient: str = field(default="", repr=False)
    """Whose image it is; "" where nothing says so."""
    split: Split = "train"
    stated: bool = False
    """Whether the data state the split; else a hash decided."""
    from_folder: bool = False
    """Whether the label is the name of a folder."""
    problem: str = ""
    note: str = ""
    digest: str = ""
    """SHA-256 of `data`."""

    @property
    def group(self) -> str:
        """What stays together: the patient, or images that are the same byte by byte."""
        return self.patient or self.digest


def read_images(path: Path | str, reading: Reading) -> Iterator[CaptionedImage]:
    """Every image of the set, in a stable order; what cannot be read says why in `problem`.

    A set that states a training and no validation split is divided within its training split.

    Raises:
        InvalidInput: nothing there, or a damaged archive or table.
    """
    validates = states_validation(path)
    for item in open_image_set(path, window=reading.window).images():
        yield _captioned(item, reading, validates)


def states_validation(path: Path | str) -> bool:
    """Whether the set itself says which images validate, by a column or by names. Decodes no image."""
    if any(named_split(key) == "val" for key in _keys(path)):
        return True
    rows = open_image_set(path).images()
    if not any(item.attributes.get(SPLIT_COLUMN) for item in islice(rows, PROBED)):
        return False
    items = open_image_set(path).images()
    return any(named_split(item.key, item.attributes.get(SPLIT_COLUMN, "")) == "val" for item in items)


def _keys(path: Path | str) -> list[str]:
    keys: list[str] = []

    def pass_over(key: str) -> bool:
        keys.append(key)
        return True

    for _ in open_image_set(path).images(pass_over):  # reads no image that can be passed over
        pass
    return keys


def _captioned(item: SourceImage, reading: Reading, validates: bool) -> CaptionedImage:
    domain = reading.domain
    patient = item.attributes.get(domain.patient_column) or item.patient
    digest = hashlib.sha256(item.data).hexdigest() if item.data else ""
    stated = named_split(item.key, item.attributes.get(SPLIT_COLUMN, ""))
    assigned = assigned_split(patient or digest, reading.share, reading.seed)
    split = stated if stated in ("val", "test") or validates else assigned
    from_folder = not item.label and not item.prompt and not item.prompt_problem
    label = class_folder(item.key) if from_folder else item.label
    return CaptionedImage(
        item.key,
        item.data,
        captions_of(item, label, domain),
        label,
        patient,
        split or "train",
        bool(stated) and split == stated,
        from_folder and bool(label),
        item.problem or item.skipped or ("" if item.data else "The image is empty."),
        item.note,
        digest,
    )


def captions_of(item: SourceImage, label: str, domain: Domain) -> tuple[str, ...]:
    """Its own text; or its label, with the attributes that captions name, in each of the domain's wordings."""
    if item.prompt and not _made_of_label(item):
        return (item.prompt,)
    if not label or label.isdigit():  # a class number says nothing to a model that reads words
        return ()
    attributes = _named(item.attributes, domain)
    return tuple(caption(words, attributes) for words in domain.captions.every(label))


def class_folder(key: str) -> str:
    """The class that an image's folder names, "" without: the innermost folder that is no split and no container.

    Example: ``class_folder("train/Pleural_Effusion/images/7.png") == "pleural effusion"``
    """
    for part in reversed(key.split("/")[:-1]):
        name = part.lower().replace("_", " ").strip()
        shard = name.endswith((".tar", ".parquet", ".pq", ".gz", ".tgz"))
        if name and not shard and name not in GENERIC and not named_split(name):
            return name
    return ""


def _made_of_label(item: SourceImage) -> bool:
    """Whether the prompt was put together from label and attributes when the set was read."""
    return bool(item.label) and (item.prompt == item.label or item.prompt.startswith(f"{item.label}, "))


def _named(attributes: Mapping[str, str], domain: Domain) -> dict[str, str]:
    """The attributes that captions name: what the domain knows, or else all but hidden ones, patient and split."""
    if domain.vocabulary is not None:
        known = domain.vocabulary.attributes
        return {name: value for name, value in attributes.items() if value in known.get(name, ())}
    left_out = {*domain.uncaptioned, SPLIT_COLUMN, "patient", "patient_id"}
    return {name: value for name, value in attributes.items() if name not in left_out}
