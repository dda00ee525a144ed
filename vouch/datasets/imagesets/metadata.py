"""The table of words beside images that `datasets` calls an image folder: ``metadata.csv``, ``.tsv``, ``.jsonl`` or
``.parquet``, in any case; the text ones may be packed (``.csv.gz``).

Each row names a file, relative to the table's folder, and says what it shows:

    file_name,prompt
    train/0001.jpg,neutrophil

A row may name a DICOM file by its SOPInstanceUID instead, in a column of that name. A table of another name is not
taken for such a table, but words that it has for an image without any are reported.
"""

from __future__ import annotations

import json
import os
import posixpath
import unicodedata
from collections.abc import Callable, Iterable, Iterator, Mapping
from functools import cached_property
from pathlib import Path, PurePosixPath
from typing import Any, Protocol

from vouch.datasets.imagesets.items import DICOM_SUFFIXES, IMAGE_SUFFIXES, suffix_of
from vouch.datasets.imagesets.parquet import images_column
from vouch.datasets.imagesets.prompts import (
    FILE_COLUMNS,
    UID_COLUMNS,
    ImageText,
    TableColumns,
    Unreadable,
    json_object,
    known_column,
    known_columns,
    words_of_row,
)
from vouch.errors import InvalidInput
from vouch.formats.csv_tables import read_csv
from vouch.formats.texts import decode_text, printable_name, unzipped

METADATA = "metadata.jsonl"
MAX_TABLE_BYTES = 64 * 1024 * 1024
"""More of a table that is packed, or in an archive, is not read."""
MAX_OTHER_BYTES = 8 * 1024 * 1024
"""A larger table of another name is not looked into."""


class Metadata:
    """The words of one folder's tables, by file.

    folder: where they are, for messages and absolute paths.
    tables: their contents, by name.
    files: what lies in the folder.
    others: reads the tables of other names.
    """

    def __init__(
        self,
        folder: Path,
        tables: Mapping[str, bytes],
        files: Files,
        known: TableColumns,
        others: Callable[[], Mapping[str, bytes]] = dict,
    ) -> None:
        self._folder, self._files, self._known, self._others = folder, files, known, others
        self._words: dict[str, ImageText] = {}
        self._alike: dict[str, str] = {}  # the names in the tables by `alike`; "" where two are
        self._table: dict[str, str] = {}  # where each file is named
        self._by_uid: dict[str, tuple[ImageText, str]] = {}  # with where each is said
        self._met: set[str] = set()
        self._bad: list[tuple[str, str]] = []  # rows that name no file
        self._unusable = ""
        for name in sorted(tables, key=lambda name: (list(_READERS).index(_kind_of(name)), name)):
            self._read(folder / name, tables[name])

    @classmethod
    def of_folder(cls, folder: Path, known: TableColumns) -> Metadata:
        """The tables that lie in a folder of the disk."""
        with os.scandir(folder) as entries:  # of which a folder may hold millions
            files = [
                Path(entry.path) for entry in entries if _kind_of(entry.name) in _READERS and entry.is_file()
            ]
        tables = {file.name: file.read_bytes() for file in files if is_metadata(file.name)}
        others = [file for file in files if is_other_table(file.name)]
        return cls(folder, tables, FilesOfFolder(folder), known, lambda: _small_tables(others))

    def of(self, file: str) -> ImageText:
        """The words for `file`, a path relative to the folder.

        A table may write the name in another case, or its accents in another form of Unicode than the disk.
        """
        if file in self._words:
            return self._words[file]
        name = next((self._alike[one] for one in _spellings(file) if one in self._alike), None)
        if name is None:
            return ImageText(problem=self._unusable or self._elsewhere(file))
        if not name:
            return ImageText(
                problem=f"Rows of the metadata table name {file} in other letters only, and differ."
            )
        # A file of exactly that name keeps the row to itself.
        return ImageText() if self._files.has(name) else self._words[name]

    def _elsewhere(self, file: str) -> str:
        """Which table of another name has words for the file, as a sentence; "" for none."""
        table = next(
            (self._named_elsewhere[one] for one in _spellings(file) if one in self._named_elsewhere), ""
        )
        return f"{table} has words for {file}, but is not read. Save it as metadata.csv." if table else ""

    @cached_property
    def _named_elsewhere(self) -> dict[str, str]:
        """The files for which tables of other names have words, by `alike`, and the table."""
        named: dict[str, str] = {}
        for table, data in self._others().items():
            try:
                other = Metadata(self._folder, {table: data}, self._files, self._known)
            except InvalidInput:  # a table of something else
                continue
            named |= {
                alike(file): table for file, words in other._words.items() if words.prompt or words.problem
            }
        return named

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
        """(file or row, why) of each row that names no file, or one that is not there or not below the folder."""
        yield from self._bad
        for file, table in self._table.items():
            if file.startswith(("../", "/")):
                yield file, f"{table} names this file, which lies outside of its folder; it is not read."
            elif not self._files.has(file) and not self._files.has_alike(file):
                yield file, f"{table} names this file, which is not there."

    def _read(self, table: Path, data: bytes) -> None:
        columns, rows = _read_table(table, data)
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
            if isinstance(row, Unreadable):
                self._unusable = f"{where} is damaged and may be about this image: {row.why}."
                self._bad.append((where, f"{where} is damaged: {row.why}."))
                continue
            if uids and isinstance(row.get(uids), str) and row[uids]:
                self._add_uid(row[uids].strip(), row, where)
            if column and (row.get(column) or not uids):
                self._add(row.get(column), row, where, table.name)

    def _add_uid(self, uid: str, row: dict[str, Any], where: str) -> None:
        words = words_of_row(row, where, self._known)
        if self._by_uid.setdefault(uid, (words, where))[0] != words:
            problem = f"{where} names a SOPInstanceUID that an earlier row names, with different words."
            self._by_uid[uid] = (ImageText(problem=problem), where)

    def _add(self, file: Any, row: dict[str, Any], where: str, table: str) -> None:
        file = file.get("path") if isinstance(file, dict) else file
        if not isinstance(file, str) or not file:
            self._bad.append((where, f"{where} names no file in its file column."))
            return
        name = self._inside(posixpath.normpath(printable_name(file).replace("\\", "/")))
        words = words_of_row(row, where, self._known)
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
        """Whether there is one whose name is `alike`, or an image's that is without its suffix."""
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
                names = os.listdir(place) if place.is_dir() else []
                listing = {one: name for name in names for one in _spellings(name)}
                listing |= {alike(name): name for name in names}
                self._listings[place] = listing
            if not (name := listing.get(alike(part))):
                return False
            place = place / name
        return True


class FilesByName:
    """The members of an archive below one of its folders."""

    def __init__(self, names: Iterable[str]) -> None:
        self._names = frozenset(names)
        self._alike = frozenset(one for name in self._names for one in _spellings(name))

    def has(self, file: str) -> bool:
        return file in self._names

    def has_alike(self, file: str) -> bool:
        return alike(file) in self._alike


def alike(name: str) -> str:
    """What names share that differ in their case or in how Unicode composes their accents (macOS decomposes them)."""
    return unicodedata.normalize("NFC", name.casefold())


def _spellings(file: str) -> tuple[str, ...]:
    """How a table may name a file, by `alike`: as it is, and an image without its suffix."""
    suffix = suffix_of(posixpath.basename(file))
    bare = suffix in IMAGE_SUFFIXES or suffix in DICOM_SUFFIXES
    return (alike(file), alike(file[: -len(suffix)])) if bare else (alike(file),)


def is_metadata(name: str) -> bool:
    """Whether a file is a metadata table by its name; ``metadata.parquet`` with image bytes is no such table."""
    return name.casefold().removesuffix(".gz") in {f"metadata{kind}" for kind in _KINDS}


def is_other_table(name: str) -> bool:
    """Whether a file may be a table of images' words under a name that is not read, such as ``captions.csv``."""
    if is_metadata(name) or name.startswith("."):
        return False
    return _kind_of(name) in _KINDS or name.casefold() == "metadata.json"


def _kind_of(name: str) -> str:
    """The suffix of a table, without ``.gz``."""
    return suffix_of(name.casefold().removesuffix(".gz"))


def _small_tables(files: Iterable[Path]) -> dict[str, bytes]:
    """The contents of tables, but for large ones and Parquet files that hold images."""
    tables = {}
    for file in files:
        try:
            large = file.stat().st_size > MAX_OTHER_BYTES
            if not large and (_kind_of(file.name) != ".parquet" or not images_column(file)[1]):
                tables[file.name] = file.read_bytes()
        except (InvalidInput, OSError):  # no Parquet file, or nobody may read it
            continue
    return tables


_Rows = tuple[list[str], Iterator[tuple[str, "dict[str, Any] | Unreadable"]]]
"""A table's columns, and its rows with what each is called."""


def _read_table(table: Path, data: bytes) -> _Rows:
    if table.name.casefold().endswith(".gz"):
        try:
            data = unzipped(data, MAX_TABLE_BYTES)
        except ValueError as error:
            raise InvalidInput(f"{table} is damaged: {error}. Unpack it.") from error
    return _READERS[_kind_of(table.name)](table, data)


def _from_csv(path: Path, data: bytes) -> _Rows:
    columns, rows = read_csv(
        path, data, lambda column: bool(known_column(column)) or column.endswith("_file_name")
    )
    return columns, ((f"row {number}", dict(row)) for number, row in rows)


def _from_jsonl(path: Path, data: bytes) -> _Rows:
    rows: list[tuple[str, dict[str, Any] | Unreadable]] = []
    columns: dict[str, None] = {}
    for number, line in enumerate(_lines(path, data), start=1):
        if not line.strip():
            continue
        try:
            row = json_object(line)
        except ValueError as error:
            rows.append((f"line {number}", Unreadable(str(error))))
        else:
            columns |= dict.fromkeys(row)
            rows.append((f"line {number}", row))
    if rows and not columns:
        raise InvalidInput(f'{path} is damaged: each line must be a JSON object with a "file_name".')
    return list(columns), iter(rows)


def _from_json(path: Path, data: bytes) -> _Rows:
    try:
        rows = json.loads(decode_text(data))
    except (ValueError, RecursionError) as error:
        raise InvalidInput(f"{path} is not JSON ({error}).") from error
    if not isinstance(rows, list) or not all(isinstance(row, dict) for row in rows):
        raise InvalidInput(f"{path} is not a list of JSON objects.")
    columns = dict.fromkeys(column for row in rows for column in row)
    return list(columns), ((f"row {number}", row) for number, row in enumerate(rows))


def _lines(path: Path, data: bytes) -> list[bytes]:
    try:
        return [line.encode() for line in decode_text(data).split("\n")]
    except ValueError as error:
        raise InvalidInput(f"{path} is damaged: {error}. Save it in UTF-8.") from error


def _from_parquet(path: Path, data: bytes) -> _Rows:
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        table = pq.read_table(pa.BufferReader(data))
        rows = [(f"row {number}", row) for number, row in enumerate(table.to_pylist())]
    except (pa.ArrowException, OSError, ValueError) as error:
        raise InvalidInput(f"{path} is damaged ({str(error)[:200]}). Write it again.") from error
    return table.column_names, iter(rows)


_READERS: dict[str, Callable[[Path, bytes], _Rows]] = {
    ".jsonl": _from_jsonl, ".csv": _from_csv, ".tsv": _from_csv, ".parquet": _from_parquet, ".json": _from_json,
}  # fmt: skip
"""By suffix, in the order in which tables of one folder count."""
_KINDS = (".jsonl", ".csv", ".tsv", ".parquet")
