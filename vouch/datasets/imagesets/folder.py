"""A folder as an image set: image files, DICOM files, tars and Parquet files, wherever they lie below it."""

from __future__ import annotations

import hashlib
import os
from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path, PurePosixPath

from vouch.datasets.dicom import read_dicom
from vouch.datasets.imagesets.items import Skip, SourceImage, size_problem
from vouch.datasets.imagesets.metadata import Metadata, alike, is_metadata
from vouch.datasets.imagesets.parquet import ParquetSet
from vouch.datasets.imagesets.prompts import (
    ANY_COLUMNS,
    MAX_NOTE_BYTES,
    PROMPT_SUFFIXES,
    ImageText,
    Note,
    TableColumns,
    words_of_notes,
)
from vouch.datasets.imagesets.tables import Tables
from vouch.datasets.imagesets.tar import TarSet
from vouch.datasets.imagesets.unique import Unique
from vouch.datasets.imagesets.walk import Entry, walk
from vouch.errors import FailedPrecondition, InvalidInput, VouchError
from vouch.formats.intensity import IntensityWindow
from vouch.formats.texts import printable_name


class FolderSet:
    """Everything below a folder in sorted order; the key is the relative path, for shards with the key inside."""

    def __init__(
        self, path: Path, columns: TableColumns = ANY_COLUMNS, window: IntensityWindow | None = None
    ) -> None:
        self.path = path
        self.layout = "folder"
        self.ignored: Counter[str] = Counter()
        self._columns, self._window, self._salt = columns, window, b""

    def count(self) -> int | None:
        """Images and rows; None with a tar among them."""
        total = 0
        for entry in walk(self.path):
            if entry.kind == "tar":
                return None
            if entry.kind == "parquet":
                total += _rows_of(entry.path)
            elif entry.kind != "ignored":
                total += 1
        return total

    def images(self, skip: Skip | None = None) -> Iterator[SourceImage]:
        """Every item below the folder, and last each row of a metadata table whose file is not there."""
        self.ignored.clear()
        tables = Tables(partial(Metadata.of_folder, known=self._columns), self._columns.vocabulary)
        keys, passed_over = Unique(), False
        for entry in walk(self.path):
            if entry.kind == "ignored":
                self.ignored[entry.why] += 1
                if is_metadata(entry.path.name):
                    tables.visit(PurePosixPath(entry.key).parent, entry.path.parent)
            elif entry.kind in ("tar", "parquet"):
                yield from self._shard(entry, skip)
            elif skip and skip(key := keys.of(entry.key)):
                passed_over = True
            else:
                yield self._item(entry, key if skip else keys.of(entry.key), tables)
        yield from tables.missing(skip)
        if not passed_over:  # else nobody has seen the UIDs of all files
            yield from tables.missing_uids()

    def _item(self, entry: Entry, key: str, tables: Tables[Path]) -> SourceImage:
        if entry.kind != "dicom":
            return _read(entry, key, tables)
        self._salt = self._salt or _salt_of(self.path)
        return _read_dicom(entry, key, tables, self._salt, self._window)

    def _shard(self, entry: Entry, skip: Skip | None) -> Iterator[SourceImage]:
        prefix = entry.key + "/"
        shard: TarSet | ParquetSet
        if entry.kind == "tar":
            shard = TarSet(entry.path, self._columns, prefix)
        else:
            shard = ParquetSet(entry.path, self._columns, prefix, self.path)
        try:
            yield from shard.images(skip)
        except InvalidInput as error:  # the other shards are sound
            if not (skip and skip(entry.key)):
                yield SourceImage(entry.key, b"", problem=error.message)
        self.ignored.update(shard.ignored)


def _rows_of(shard: Path) -> int:
    """Items of a Parquet file; a damaged one is an item by itself."""
    try:
        return ParquetSet(shard).count() or 0
    except InvalidInput:
        return 1


def _read(entry: Entry, key: str, tables: Tables[Path]) -> SourceImage:
    if entry.kind == "skipped":
        return SourceImage(key, b"", skipped=entry.why)
    try:
        words = tables.words(_beside(entry), PurePosixPath(entry.key), entry.path.parents)
        problem = size_problem(entry.path.stat().st_size)
        return words.on(key, b"" if problem else entry.path.read_bytes(), problem)
    except InvalidInput:  # a damaged table concerns all its images
        raise
    except OSError as error:
        return SourceImage(key, b"", problem=f"The file could not be read: {error.strerror}.")
    except Exception as error:  # noqa: BLE001 - one odd file must not end the set
        return SourceImage(key, b"", problem=f"The file could not be read ({type(error).__name__}: {error}).")


def _read_dicom(
    entry: Entry, key: str, tables: Tables[Path], salt: bytes, window: IntensityWindow | None
) -> SourceImage:
    try:
        image = read_dicom(entry.path, salt, window)
    except FailedPrecondition as error:  # a package is missing: no fault of the file
        return SourceImage(key, b"", skipped=error.message)
    except VouchError as error:
        if error.reason == "DICOM_NO_IMAGE":  # reports, presentation states, structures
            return SourceImage(key, b"", skipped=error.message)
        return SourceImage(key, b"", problem=error.message)
    except OSError as error:
        return SourceImage(key, b"", problem=f"The file could not be read: {error.strerror}.")
    words = tables.words(_beside(entry), PurePosixPath(entry.key), entry.path.parents, image.uid)
    read = words.on(key, image.data, size_problem(len(image.data)))
    return replace(read, patient=image.patient or read.patient, note=" ".join(image.notes), dicom=True)


def _salt_of(folder: Path) -> bytes:
    """The salt of patients' hashes: what lies in the set, by names and sizes. The same set groups its patients alike on
    every reading, and a hash says nothing to whoever has not the set."""
    total = hashlib.sha256()
    for entry in walk(folder):
        total.update(f"{entry.key} {entry.path.stat().st_size if entry.path.is_file() else 0}\n".encode())
    return total.digest()


def _beside(entry: Entry) -> ImageText:
    """The words of the notes beside an image: of a.png in a.txt, or in a.png.txt."""
    own, longer = ({s: entry.beside.get(stem + s) or entry.beside.get(alike(stem + s)) for s in PROMPT_SUFFIXES}
                   for stem in (entry.path.stem, entry.path.name))  # fmt: skip
    return _notes(entry, own).or_else(_notes(entry, longer))


def _notes(entry: Entry, names: dict[str, str | None]) -> ImageText:
    notes = {}
    for suffix, name in names.items():
        if name and (file := entry.path.with_name(name)).is_file():
            notes[suffix] = _note(file)
    return words_of_notes(notes)


def _note(file: Path) -> Note:
    with file.open("rb") as opened:
        return Note(printable_name(file.name), opened.read(MAX_NOTE_BYTES), os.fstat(opened.fileno()).st_size)
