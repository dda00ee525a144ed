"""Where the words of an image are found, and what is said when they are there but cannot be read."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from vouch.datasets.imagesets.items import SourceImage
from vouch.formats.texts import checked_text, decode_text, escaped, unzipped
from vouch.models.captions import Vocabulary, caption

_JSON = (".json", ".jsn")
_LABELS = (".cls", ".class")
_READ = (*_JSON, ".txt", ".text", ".caption", ".transcript", ".prompt", *_LABELS)
_NOT_READ = (".yaml", ".yml", ".pyd", ".pickle", ".mp", ".msg", ".msgpack", ".cbor")
PROMPT_SUFFIXES = (*_READ, *(f"{suffix}.gz" for suffix in _READ), *_NOT_READ)
"""Files beside an image, or members of its sample, that hold its words; with the names of WebDataset."""
PROMPT_COLUMNS = ("prompt", "text", "caption", "captions", "description")
FILE_COLUMNS = ("file_name", "image", "filename", "file", "path")
UID_COLUMNS = ("SOPInstanceUID", "sop_instance_uid", "dicom_id")
"""Columns that say by DICOM's SOPInstanceUID which image a row describes."""
PATIENT_COLUMNS = ("patient", "patient_id", "PatientID", "subject_id")
"""Columns that say whose image a row describes. No prompt ever names them."""
LABEL_COLUMN = "label"
_KNOWN = (*PROMPT_COLUMNS, *FILE_COLUMNS, *UID_COLUMNS, *PATIENT_COLUMNS, LABEL_COLUMN)
_IDENTIFYING = frozenset((
    "patientid", "patientname", "patientbirthdate", "patientbirthname", "patientaddress",
    "patienttelephonenumbers", "otherpatientids", "otherpatientnames", "subjectid", "dicomid",
    "sopinstanceuid", "seriesinstanceuid", "studyinstanceuid", "studyid", "accessionnumber", "studydate",
    "seriesdate", "acquisitiondate", "contentdate", "studytime", "institutionname", "institutionaddress",
    "referringphysicianname", "performingphysicianname", "operatorsname", "requestingphysician",
    "physiciansofrecord", "medicalrecordlocator", "issuerofpatientid", "stationname", "deviceserialnumber",
    "mrn",
))  # fmt: skip
"""Columns named like DICOM elements that identify people (PS3.15, table E.1-1), in lower case without separators: they
are no attributes of an image."""
MAX_PROMPT_BYTES = 64 * 1024
MAX_NOTE_BYTES = 1024 * 1024
"""More of a JSON file beside an image is not read."""


@dataclass(frozen=True)
class ImageText:
    """What was found to say of one image."""

    prompt: str = ""
    label: str = ""
    attributes: Mapping[str, str] = field(default_factory=dict)
    problem: str = ""
    """Why there is no prompt although something is there; "" otherwise."""
    patient: str = field(default="", repr=False)

    def or_else(self, other: ImageText) -> ImageText:
        """These, with what they lack taken from the other ones. A problem is kept until there is a prompt."""
        prompt = self.prompt or other.prompt
        return ImageText(
            prompt,
            self.label or other.label,
            self.attributes or other.attributes,
            "" if prompt else self.problem or other.problem,
            self.patient or other.patient,
        )

    def on(self, key: str, data: bytes, problem: str = "") -> SourceImage:
        """The image with these words."""
        return SourceImage(
            key, b"" if problem else data, self.prompt, self.label, self.attributes, problem, self.problem,
            patient=self.patient,
        )  # fmt: skip


@dataclass(frozen=True)
class TableColumns:
    """What the reader of a set knows of its tables' columns."""

    vocabulary: Vocabulary | None = None
    """Keeps columns that the model never learned out of prompts; None: all are taken."""
    patient: str = ""
    """A further column that says whose image a row describes, beside `PATIENT_COLUMNS`."""

    def names_patient(self, column: str) -> bool:
        """Whether a column says whose image a row describes."""
        return column in PATIENT_COLUMNS or self.is_own_patient(column)

    def is_own_patient(self, column: str) -> bool:
        """Whether it is the column `patient`, in any spelling."""
        return bool(self.patient) and folded(column) == folded(self.patient)


ANY_COLUMNS = TableColumns()
"""Nothing is known of them."""


@dataclass(frozen=True)
class Note:
    """A file or member with words, such as ``a.txt``."""

    name: str
    data: bytes = field(repr=False)
    size: int
    """Bytes of the file; `data` may hold fewer of one that is too large."""
    problem: str = ""
    """Why these words are not taken, as the end of a sentence."""


@dataclass(frozen=True)
class Unreadable:
    """A cell that could not be read, with the reason."""

    why: str


def note_suffix(name: str) -> str:
    """The one of `PROMPT_SUFFIXES` that a file's name ends in, "" for none."""
    folded = name.lower()
    endings = [s for s in PROMPT_SUFFIXES if folded.endswith(s) and len(folded) > len(s)]
    return max(endings, key=len, default="")


def words_of_notes(notes: Mapping[str, Note]) -> ImageText:
    """The words of the notes beside an image, by suffix. A readable note makes up for an unreadable one."""
    words, label, problem = "", "", ""
    for suffix in PROMPT_SUFFIXES:
        if (note := notes.get(suffix)) is None:
            continue
        try:
            prompt, named = _of_note(suffix, note)
        except ValueError as error:
            problem = problem or f"{note.name} is there, but not readable: {error}."
        else:
            words, label = words or prompt, label or named
    # A class number says nothing to a model that reads words.
    prompt = words or ("" if label.isdigit() else label)
    return ImageText(prompt, label, {}, "" if prompt else problem)


def _of_note(suffix: str, note: Note) -> tuple[str, str]:
    """Prompt and label of one note. Raises ValueError with the reason, as the end of a sentence."""
    if note.problem:
        raise ValueError(note.problem)
    if suffix in _NOT_READ:
        raise ValueError(f"{suffix} files are not read. Write the words into a .txt or .json")
    kind = suffix.removesuffix(".gz")
    most = MAX_NOTE_BYTES if kind in _JSON else MAX_PROMPT_BYTES
    if note.size > most:
        raise ValueError(f"it has {note.size} bytes; at most {most} are read")
    data = note.data if kind == suffix else unzipped(note.data, most)
    if kind in _LABELS:
        return "", decode_text(data).strip()
    if kind not in _JSON:
        return decode_text(data).strip(), ""
    described = renamed(json_object(data))
    prompt = next((text for name in PROMPT_COLUMNS if (text := _text_in(described, name))), "")
    return prompt, label_text(described.get("label"))


def json_object(data: bytes) -> dict[str, Any]:
    """A JSON object; {} for an empty file. Raises ValueError with the reason, such as a name that it has twice."""
    text = decode_text(data)
    try:
        value = json.loads(text, object_pairs_hook=_unique_pairs) if text.strip() else {}
    except (ValueError, RecursionError) as error:
        raise ValueError(f"it is not JSON ({error})") from error
    if not isinstance(value, dict):
        raise ValueError("it is JSON, but not an object")
    return value


def _unique_pairs(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    unique = dict(pairs)
    if len(unique) < len(pairs):
        raise ValueError(f"it has {next(n for n in unique if [p[0] for p in pairs].count(n) > 1)!r} twice")
    return unique


def folded(column: str) -> str:
    """What spellings of one column share: ``Patient ID``, ``patient_id`` and ``PatientID``."""
    return re.sub(r"[\s_-]", "", column).lower()


_BY_FOLDED = {folded(name): name for name in reversed(_KNOWN)} | {"class": LABEL_COLUMN}
"""Of two that fold alike the first."""


def known_column(column: str) -> str:
    """The name by which this module knows a column, "" for any other. Spreadsheets write ``Prompt`` and `` text``."""
    return column if column in _KNOWN else _BY_FOLDED.get(folded(column), "")


def known_columns(columns: Iterable[str]) -> dict[str, str]:
    """What each column is called here. A column that has a known name exactly keeps it from one that nearly has."""
    columns = list(columns)
    names: dict[str, str] = {}
    for column in columns:
        known = known_column(column)
        free = known and known not in columns and known not in names.values()
        names[column] = known if free else column
    if not set(FILE_COLUMNS) & set(names.values()):
        names |= dict.fromkeys(_files_of_datasets(columns), FILE_COLUMNS[0])
    return names


def _files_of_datasets(columns: list[str]) -> list[str]:
    """The column of images as `datasets` may name it, ``image_file_name``: the only one of its kind, or none."""
    ending = [column for column in columns if column.strip().lower().endswith(f"_{FILE_COLUMNS[0]}")]
    images = [column for column in ending if column.strip().lower().startswith("image_")]
    return next((one for one in (images, ending) if len(one) == 1), [])


def renamed(row: Mapping[str, Any]) -> dict[str, Any]:
    """A row under the names of `known_columns`."""
    names = known_columns(row)
    return {names[column]: value for column, value in row.items()}


def words_of_row(row: Mapping[str, Any], where: str, columns: TableColumns) -> ImageText:
    """The words of a table's row: a prompt column, or else label and attributes as a prompt.

    `where` names the row in messages.
    """
    row = renamed(row)
    try:
        prompt = next((text for name in PROMPT_COLUMNS if (text := _text_in(row, name))), "")
        label = label_text(row.get("label"))
    except ValueError as error:
        return ImageText(problem=f"{where} has words, but they are not readable: {error}.")
    attributes = _attributes(row)
    if label and not prompt and not label.isdigit():
        prompt = caption(label, _known(attributes, columns))
    return ImageText(prompt, label, attributes, patient=_patient(row, columns))


def _patient(row: Mapping[str, Any], columns: TableColumns) -> str:
    own = filter(columns.is_own_patient, row)
    patient = next((row[name] for name in (*own, *PATIENT_COLUMNS) if row.get(name) not in (None, "")), "")
    if isinstance(patient, float):  # a column of numbers with gaps, as pandas writes it
        return label_text(patient) if math.isfinite(patient) else ""
    return escaped(str(patient)) if isinstance(patient, (str, int)) else ""


def is_identifying(column: str) -> bool:
    """Whether a column is named like a DICOM element that identifies people."""
    return folded(column) in _IDENTIFYING


def _attributes(row: Mapping[str, Any]) -> dict[str, str]:
    taken = {LABEL_COLUMN, *PROMPT_COLUMNS, *FILE_COLUMNS}
    texts = {name: value for name, value in row.items() if name not in taken and isinstance(value, str)}
    texts = {name: value for name, value in texts.items() if not is_identifying(name)}
    return {name: escaped(value) for name, value in texts.items() if value and not _is_number(value)}


def _known(attributes: Mapping[str, str], columns: TableColumns) -> dict[str, str]:
    attributes = {name: value for name, value in attributes.items() if not columns.names_patient(name)}
    if columns.vocabulary is None:
        return attributes
    known = columns.vocabulary.attributes
    return {name: value for name, value in attributes.items() if value in known.get(name, ())}


def _text_in(row: Mapping[str, Any], name: str) -> str:
    try:
        return as_text(row.get(name))
    except ValueError as error:
        raise ValueError(f"{name}: {error}") from error


def as_text(value: Any) -> str:
    """A cell as text, "" where there is none; the first of a list. Raises ValueError with the reason."""
    if value is None or (isinstance(value, float) and math.isnan(value)):
        return ""
    if isinstance(value, str):
        return checked_text(value).strip()
    if isinstance(value, bytes):
        return decode_text(value).strip()
    if isinstance(value, Unreadable):
        raise ValueError(value.why)
    if isinstance(value, (list, tuple)):
        return next((text for inner in value if (text := as_text(inner))), "")
    raise ValueError(f"it is of type {type(value).__name__}, not text")


def label_text(value: Any) -> str:
    """A label as text; a class number stays a number, in digits. Raises ValueError with the reason."""
    if isinstance(value, (int, float)) and not isinstance(value, bool) and value == int_or_none(value):
        return str(int(value))
    return as_text(value)


def int_or_none(value: float) -> int | None:
    return int(value) if math.isfinite(value) else None


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True


@dataclass(frozen=True)
class Prompting:
    """Which prompt an image gets: its own, or the given one where it has none."""

    given: str = ""
    override: bool = False
    """The given one takes the place of the images' own too."""

    def choose(self, image: SourceImage) -> tuple[str, str]:
        """(prompt, whose): whose is "own", "given", "overridden", or "" where there is no prompt.

        Words that are there but unreadable are no reason to put the given ones in their place.
        """
        there = bool(image.prompt or image.prompt_problem)
        if self.given and (self.override or not there):
            return self.given, "overridden" if there else "given"
        return image.prompt, "own" if image.prompt else ""
