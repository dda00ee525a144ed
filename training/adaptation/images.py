"""Captioned images in every form that people have them, one at a time and still encoded.

A folder with `metadata.csv` or `.jsonl`, class folders, Parquet, WebDataset and DICOM are read by
`vouch.datasets.imagesets`; here they get a caption, a patient and a split.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from training.adaptation.splits import FEW_GROUPS, GENERIC, VALIDATION_SHARE, Split, divided, named_split
from vouch.datasets.imagesets import ImageSet, SourceImage, open_image_set
from vouch.datasets.imagesets.prompts import TableColumns
from vouch.domains.criteria import Domain
from vouch.formats.intensity import IntensityWindow
from vouch.models.captions import caption

SPLIT_COLUMN = "split"


@dataclass(frozen=True)
class ReadOptions:
    """How an image set is read."""

    domain: Domain
    window: IntensityWindow | None = None
    """Values that are black and white in DICOM files and greys of more than 8 bits; None: each file's own, or all."""
    share: float = VALIDATION_SHARE
    """Share of patients that validate, where the data state no validation split."""

    def open(self, path: Path | str) -> ImageSet:
        """The set at `path`. Raises InvalidInput as `open_image_set` does."""
        return open_image_set(path, window=self.window, patient_column=self.domain.patient_column)


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
    folder_unused: bool = False
    """Whether it has no words, and its folder's name is not taken for any."""
    problem: str = ""
    note: str = ""
    digest: str = ""
    """SHA-256 of `data`."""

    @property
    def group(self) -> str:
        """What stays together: the patient, or images that are the same byte by byte."""
        return self.patient or self.digest


def read_images(path: Path | str, reading: ReadOptions) -> Iterator[CaptionedImage]:
    """Every image of the set, in a stable order; what cannot be read says why in `problem`.

    A set that states a training and no validation split is divided within its training split.

    Raises:
        InvalidInput: nothing there, or a damaged archive or table.
    """
    survey = SetSurvey.of(path, reading)
    for item in reading.open(path).images():
        yield _captioned(item, reading.domain, survey)


@dataclass(frozen=True)
class SetSurvey:
    """What has to be known of a whole set before its first image is captioned."""

    validates: bool
    """Whether the set itself says which images validate, by a column or by names."""
    worded: bool
    """Whether any image has words of its own: then a folder's name is no caption, for it may be a patient's."""
    split_of: Callable[[str], Split]
    """The split of a group whose split is not stated."""

    @classmethod
    def of(cls, path: Path | str, reading: ReadOptions) -> SetSurvey:
        """Reads the set up to where nothing more can change: of class folders and of few patients all of it."""
        validates = any(named_split(key) == "val" for key in _keys(reading.open(path)))
        worded = by_column = False
        groups: dict[bool, set[str]] = {
            True: set(),
            False: set(),
        }  # by whether the image has words of its own
        for item in reading.open(path).images():
            column, own = item.attributes.get(SPLIT_COLUMN, ""), _has_words(item)
            validates = validates or named_split(item.key, column) == "val"
            by_column, worded = by_column or bool(column), worded or own
            if len(groups[own]) < FEW_GROUPS and _may_be_divided(item, reading.domain):
                groups[own].add(_group_of(item, reading.domain))
            if worded and (validates or (len(groups[True]) >= FEW_GROUPS and not by_column)):
                break
        return cls(validates, worded, divided(groups[worded], reading.share))


def _keys(images: ImageSet) -> list[str]:
    keys: list[str] = []

    def pass_over(key: str) -> bool:
        keys.append(key)
        return True

    for _ in images.images(pass_over):  # reads no image that can be passed over
        pass
    return keys


def _has_words(item: SourceImage) -> bool:
    """Also of words that cannot be read: a folder's name does not stand in for them."""
    return bool(item.label or item.prompt or item.prompt_problem)


def _may_be_divided(item: SourceImage, domain: Domain) -> bool:
    """Whether it can teach, and its split is not stated to be another one."""
    stated = named_split(item.key, item.attributes.get(SPLIT_COLUMN, ""))
    label = _label_of(item, worded=False)
    return bool(item.data) and stated in ("", "train") and bool(captions_of(item, label, domain))


def _label_of(item: SourceImage, worded: bool) -> str:
    """Its own label, or its folder's name where it has no words, no image of the set has any, and it is no DICOM file:
    archives name the folders of those after patients."""
    return item.label if worded or item.dicom or _has_words(item) else class_folder(item.key)


def _group_of(item: SourceImage, domain: Domain) -> str:
    """What stays together: the patient, or images that are the same byte by byte."""
    return _patient_of(item, domain) or hashlib.sha256(item.data).hexdigest()


def _patient_of(item: SourceImage, domain: Domain) -> str:
    return item.attributes.get(domain.patient_column) or item.patient


def _captioned(item: SourceImage, domain: Domain, survey: SetSurvey) -> CaptionedImage:
    digest = hashlib.sha256(item.data).hexdigest() if item.data else ""
    patient = _patient_of(item, domain)
    stated = named_split(item.key, item.attributes.get(SPLIT_COLUMN, ""))
    split = stated if stated in ("val", "test") or survey.validates else survey.split_of(patient or digest)
    label, bare = _label_of(item, survey.worded), not _has_words(item)
    return CaptionedImage(
        item.key,
        item.data,
        captions_of(item, label, domain),
        label,
        patient,
        split or "train",
        bool(stated) and split == stated,
        bare and bool(label),
        bare and not label and bool(class_folder(item.key)),
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
    columns, left_out = TableColumns(patient=domain.patient_column), {*domain.hidden_columns, SPLIT_COLUMN}
    return {
        name: value
        for name, value in attributes.items()
        if name not in left_out and not columns.names_patient(name)
    }
