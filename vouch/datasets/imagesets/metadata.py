"""The table of words beside images that `datasets` calls an image folder: ``metadata.csv``, ``.jsonl`` or ``.parquet``.

Each row names a file, relative to the table's folder, and says what it shows:

    file_name,prompt
    train/0001.jpg,neutrophil
"""

from __future__ import annotations

import posixpath
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from vouch.datasets.imagesets.prompts import (
    FILE_COLUMNS,
    PROMPT_COLUMNS,
    ImageText,
    json_object,
    words_of_row,
)
from vouch.errors import InvalidInput
from vouch.formats.csv_tables import read_csv
from vouch.formats.texts import printable_name
from vouch.models.captions import Vocabulary

METADATA = "metadata.jsonl"
NAMES = (METADATA, "metadata.csv", "metadata.parquet")


class Metadata:
    """The words of one folder's tables, by file."""

    def __init__(self, folder: Path, vocabulary: Vocabulary | None) -> None:
        self._folder, self._vocabulary = folder, vocabulary
        self._words: dict[str, ImageText] = {}
        self._table: dict[str, str] = {}  # where each file is named
        self._unusable = ""
        for name in NAMES:
            if (table := folder / name).is_file():
                self._read(table)

    def of(self, file: str) -> ImageText:
        """The words for `file`, a path relative to the folder."""
        return self._words.get(file, ImageText(problem=self._unusable))

    def missing(self) -> Iterator[tuple[str, str]]:
        """(file, why) of each row whose file is not there, or not below the folder."""
        for file, table in self._table.items():
            if file.startswith(("../", "/")):
                yield file, f"{table} names this file, which lies outside of its folder; it is not read."
            elif not (self._folder / file).exists():
                yield file, f"{table} names this file, which is not there."

    def _read(self, table: Path) -> None:
        columns, rows = _READERS[table.suffix](table)
        column = next((name for name in FILE_COLUMNS if name in columns), "")
        if not column:
            self._unusable = (
                f"{table.name} is there, but has no column file_name that says which image a row describes; its "
                f"columns are {', '.join(columns)[:300] or 'none'}."
            )
            return
        for where, row in rows:
            self._add(row.get(column), row, f"{table.name} {where}", table.name)

    def _add(self, file: Any, row: dict[str, Any], where: str, table: str) -> None:
        file = file.get("path") if isinstance(file, dict) else file
        if not isinstance(file, str) or not file:
            raise InvalidInput(
                f"{self._folder / table} is damaged: {where} names no file in its file column."
            )
        name = posixpath.normpath(printable_name(file).replace("\\", "/"))
        words = words_of_row(row, where, self._vocabulary)
        if self._table.setdefault(name, table) != table:
            return  # an earlier kind of table comes first
        if self._words.setdefault(name, words) != words:
            self._words[name] = ImageText(
                problem=f"{table} names {name} more than once, with different words."
            )


def is_table_of_files(path: Path) -> bool:
    """Whether it is a metadata table by its name; ``metadata.parquet`` with image bytes is no such table."""
    return path.name in NAMES


def _from_csv(path: Path) -> tuple[list[str], Iterator[tuple[str, dict[str, Any]]]]:
    columns, rows = read_csv(path, {*FILE_COLUMNS, *PROMPT_COLUMNS, "label"}.__contains__)
    return columns, ((f"row {number}", dict(row)) for number, row in rows)


def _from_jsonl(path: Path) -> tuple[list[str], Iterator[tuple[str, dict[str, Any]]]]:
    rows: list[tuple[str, dict[str, Any]]] = []
    columns: dict[str, None] = {}
    for number, line in enumerate(_lines(path), start=1):
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


def _lines(path: Path) -> list[bytes]:
    from vouch.formats.texts import decode_text

    try:
        return [line.encode() for line in decode_text(path.read_bytes()).split("\n")]
    except ValueError as error:
        raise InvalidInput(f"{path} is damaged: {error}. Save it in UTF-8.") from error


def _from_parquet(path: Path) -> tuple[list[str], Iterator[tuple[str, dict[str, Any]]]]:
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        table = pq.read_table(path)
        rows = [(f"row {number}", row) for number, row in enumerate(table.to_pylist())]
    except (pa.ArrowException, OSError, ValueError) as error:
        raise InvalidInput(f"{path} is damaged ({str(error)[:200]}). Write it again.") from error
    return table.column_names, iter(rows)


_READERS = {".csv": _from_csv, ".jsonl": _from_jsonl, ".parquet": _from_parquet}
