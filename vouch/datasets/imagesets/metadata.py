"""The table of words beside images that `datasets` calls an image folder: ``metadata.csv``, ``.jsonl`` or ``.parquet``.

Each row names a file, relative to the table's folder, and says what it shows:

    file_name,prompt
    train/0001.jpg,neutrophil

A row may name a DICOM file by its SOPInstanceUID instead, in a column of that name.
"""

from __future__ import annotations

import os
import posixpath
import unicodedata
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path, PurePosixPath
from typing import Any, Protocol

from vouch.datasets.imagesets.prompts import (
    FILE_COLUMNS,
    UID_COLUMNS,
    ImageText,
    json_object,
    known_column,
    known_columns,
    words_of_row,
)
from vouch.errors import InvalidInput
from vouch.formats.csv_tables import read_csv
from vouch.formats.texts import decode_text, printable_name
from vouch.models.captions import Vocabulary

METADATA = "metadata.jsonl"
NAMES = (METADATA, "metadata.csv", "metadata.parquet")


class Metadata:
    """The words of one folder's tables, by file.

    folder: where they are, for messages and absolute paths.
    tables: the contents of those of `NAMES` that are there.
    files: what lies in the folder.
    """

    def __init__(
        self, folder: Path, tables: Mapping[str, bytes], files: Files, vocabulary: Vocabulary | None
    ) -> None:
        self._folder, self._files, self._vocabulary = folder, files, vocabulary
        self._words: dict[str, ImageText] = {}
        self._alike: dict[str, str] = {}  # the names in the tables by `alike`; "" where two are
        self._table: dict[str, str] = {}  # where each file is named
        self._by_uid: dict[str, tuple[ImageText, str]] = {}  # with where each is said
        self._met: set[str] = set()
        self._unusable = ""
        for name in NAMES:
            if name in tables:
                self._read(folder / name, tables[name])

    @classmethod
    def of_folder(cls, folder: Path, vocabulary: Vocabulary | None) -> Metadata:
        """The tables that lie in a folder of the disk."""
        tables = {name: file.read_bytes() for name in NAMES if (file := folder / name).is_file()}
        return cls(folder, tables, FilesOfFolder(folder), vocabulary)

    def of(self, file: str) -> ImageText:
        """The words for `file`, a path relative to the folder.

        A table may write the name in another case, or its accents in another form of Unicode than the disk.
        """
        if file in self._words:
            return self._words[file]
        name = self._alike.get(alike(file))
        if name is None:
            return ImageText(problem=self._unusable)
        if not name:
            return ImageText(
                problem=f"Rows of the metadata table name {file} in other letters only, and differ."
            )
        # A file of exactly that name keeps the row to itself.
        return ImageText() if self._files.has(name) else self._words[name]

    def of_uid(self, uid: str) -> ImageText:
        """The words for the DICOM image of this SOPInstanceUID."""
        if not uid or uid not in self._by_uid:
            return ImageText()
        self._met.add(uid)
        return self._by_uid[uid][0]

    def missing_uids(self) -> Iterator[tuple[str, str]]:
        """(row, why) of each row whose SOPInstanceUID no image had so far."""
        for uid, (_, where) in self._by_uid.items():
            if uid not in self._met:
                yield where, f"{where} names a SOPInstanceUID that no DICOM file here has."

    def missing(self) -> Iterator[tuple[str, str]]:
        """(file, why) of each row whose file is not there, or not below the folder."""
        for file, table in self._table.items():
            if file.startswith(("../", "/")):
                yield file, f"{table} names this file, which lies outside of its folder; it is not read."
            elif not self._files.has(file) and not self._files.has_alike(file):
                yield file, f"{table} names this file, which is not there."

    def _read(self, table: Path, data: bytes) -> None:
        columns, rows = _READERS[table.suffix](table, data)
        names = {known: column for column, known in known_columns(columns).items()}
        column = next((names[name] for name in FILE_COLUMNS if name in names), "")
        uids = next((names[name] for name in UID_COLUMNS if name in names), "")
        if not column and not uids:
            self._unusable = (
                f"{table.name} is there, but has no column file_name that says which image a row describes; its "
                f"columns are {', '.join(columns)[:300] or 'none'}."
            )
            return
        for number, row in rows:
            where = f"{table.name} {number}"
            if uids and isinstance(row.get(uids), str) and row[uids]:
                self._add_uid(row[uids].strip(), row, where)
            if column and (row.get(column) or not uids):
                self._add(row.get(column), row, where, table.name)

    def _add_uid(self, uid: str, row: dict[str, Any], where: str) -> None:
        words = words_of_row(row, where, self._vocabulary)
        if self._by_uid.setdefault(uid, (words, where))[0] != words:
            problem = f"{where} names a SOPInstanceUID that an earlier row names, with different words."
            self._by_uid[uid] = (ImageText(problem=problem), where)

    def _add(self, file: Any, row: dict[str, Any], where: str, table: str) -> None:
        file = file.get("path") if isinstance(file, dict) else file
        if not isinstance(file, str) or not file:
            raise InvalidInput(
                f"{self._folder / table} is damaged: {where} names no file in its file column."
            )
        name = self._inside(posixpath.normpath(printable_name(file).replace("\\", "/")))
        words = words_of_row(row, where, self._vocabulary)
        if self._table.setdefault(name, table) != table:
            return  # an earlier kind of table comes first
        if self._alike.setdefault(alike(name), name) != name:
            self._alike[alike(name)] = ""
        if self._words.setdefault(name, words) != words:
            self._words[name] = ImageText(
                problem=f"{table} names {name} more than once, with different words."
            )

    def _inside(self, name: str) -> str:
        """The name relative to the folder, also of an absolute path that leads into it."""
        for folder in (self._folder.absolute(), self._folder.resolve()):
            if name.startswith(f"{folder.as_posix()}/"):
                return posixpath.relpath(name, folder.as_posix())
        return name


class Files(Protocol):
    """What lies in a folder and below it, by relative path."""

    def has(self, file: str) -> bool: ...

    def has_alike(self, file: str) -> bool:
        """Whether there is one whose name is `alike`."""
        ...


class FilesOfFolder:
    """The files of a folder of the disk."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._listings: dict[Path, dict[str, str]] = {}

    def has(self, file: str) -> bool:
        return (self._folder / file).exists()

    def has_alike(self, file: str) -> bool:
        place = self._folder
        for part in PurePosixPath(file).parts:
            if (listing := self._listings.get(place)) is None:
                listing = {alike(name): name for name in os.listdir(place)} if place.is_dir() else {}
                self._listings[place] = listing
            if not (name := listing.get(alike(part))):
                return False
            place = place / name
        return True


class FilesByName:
    """The members of an archive below one of its folders."""

    def __init__(self, names: Iterable[str]) -> None:
        self._names = frozenset(names)
        self._alike = frozenset(map(alike, self._names))

    def has(self, file: str) -> bool:
        return file in self._names

    def has_alike(self, file: str) -> bool:
        return alike(file) in self._alike


def alike(name: str) -> str:
    """What names share that differ in their case or in how Unicode composes their accents (macOS decomposes them)."""
    return unicodedata.normalize("NFC", name.casefold())


def is_table_of_files(path: Path) -> bool:
    """Whether it is a metadata table by its name; ``metadata.parquet`` with image bytes is no such table."""
    return path.name in NAMES


def _from_csv(path: Path, data: bytes) -> tuple[list[str], Iterator[tuple[str, dict[str, Any]]]]:
    columns, rows = read_csv(
        path, data, lambda column: bool(known_column(column)) or column.endswith("_file_name")
    )
    return columns, ((f"row {number}", dict(row)) for number, row in rows)


def _from_jsonl(path: Path, data: bytes) -> tuple[list[str], Iterator[tuple[str, dict[str, Any]]]]:
    rows: list[tuple[str, dict[str, Any]]] = []
    columns: dict[str, None] = {}
    for number, line in enumerate(_lines(path, data), start=1):
        if not line.strip():
            continue
        try:
            row = json_object(line)
        except ValueError as error:
            raise InvalidInput(
                f'{path} is damaged: line {number} must be a JSON object with a "file_name", but {error}.'
            ) from error
        columns |= dict.fromkeys(row)
        rows.append((f"line {number}", row))
    return list(columns), iter(rows)


def _lines(path: Path, data: bytes) -> list[bytes]:
    try:
        return [line.encode() for line in decode_text(data).split("\n")]
    except ValueError as error:
        raise InvalidInput(f"{path} is damaged: {error}. Save it in UTF-8.") from error


def _from_parquet(path: Path, data: bytes) -> tuple[list[str], Iterator[tuple[str, dict[str, Any]]]]:
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        table = pq.read_table(pa.BufferReader(data))
        rows = [(f"row {number}", row) for number, row in enumerate(table.to_pylist())]
    except (pa.ArrowException, OSError, ValueError) as error:
        raise InvalidInput(f"{path} is damaged ({str(error)[:200]}). Write it again.") from error
    return table.column_names, iter(rows)


_READERS = {".csv": _from_csv, ".jsonl": _from_jsonl, ".parquet": _from_parquet}
