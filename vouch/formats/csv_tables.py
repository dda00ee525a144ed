"""CSV tables as spreadsheets write them: any usual separator, UTF-8 or UTF-16, with a byte-order mark or without.

The separator is the one under which the header holds most of the columns that the reader expects; a first line
``sep=;`` (Excel) names it. What cannot be read is refused by row and column: rows count from 1 after the header.
"""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Callable, Iterator
from pathlib import Path

from vouch.errors import InvalidInput
from vouch.formats.texts import decode_text

SEPARATORS = (",", ";", "\t", "|")
_NAMED_SEPARATOR = re.compile(r'\s*"?sep=([^"\r\n])"? *(?:\r\n?|\n|$)', re.IGNORECASE)

Row = dict[str, str]


def read_csv(
    path: Path, data: bytes, expected: Callable[[str], bool], *, full_rows: bool = False
) -> tuple[list[str], Iterator[tuple[int, Row]]]:
    """The columns of CSV `data`, and its rows with their numbers; rows of empty cells are passed over.

    `path` names the file in messages, and `expected` says which column names the reader looks for. `full_rows`: a row
    that ends before the last column has lost something; otherwise its last cells are empty.

    Raises:
        InvalidInput: not CSV in UTF-8 or UTF-16, a column that is there twice, a cell without a column, or a row that
            is not full.
    """
    try:
        text = decode_text(data)
    except ValueError as error:
        raise InvalidInput(f"{path} is not a readable CSV file: {error}. Save it as CSV in UTF-8.") from error
    separator, text = _separator(text, expected)
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=separator, strict=True)
    try:
        header = [name.strip() for name in next(reader, [])]
    except csv.Error as error:
        raise InvalidInput(f"{path} is not a readable CSV file: {error} in its header.") from error
    while header and not header[-1]:
        header.pop()  # separators after the last column
    check_unique(path, header)
    whole = text.endswith(("\n", "\r"))
    return header, _rows(path, reader, header, whole, full_rows)


def check_unique(path: Path, columns: list[str]) -> None:
    """Raises `InvalidInput` with the name of a column that a table has twice: one would hide the other."""
    for number, name in enumerate(columns):
        if name in columns[:number]:
            raise InvalidInput(
                f"{path} has the column {name!r} twice, as columns {columns.index(name) + 1} and {number + 1}."
                " One would hide the other: remove or rename one.",
                "DUPLICATE_COLUMNS",
            )


def _rows(
    path: Path, reader: Iterator[list[str]], header: list[str], whole: bool, full_rows: bool
) -> Iterator[tuple[int, Row]]:
    number = 0
    try:
        ahead = next(reader, None)
        while (cells := ahead) is not None:
            number += 1
            ahead = next(reader, None)
            _check_extra(path, number, cells, header)
            if any(cells) and len(cells) < len(header) and (full_rows or (ahead is None and not whole)):
                raise InvalidInput(
                    f"{path} row {number} ends before column {header[len(cells)]!r}. Save the whole file again, with a"
                    " separator for each empty cell."
                )
            if any(cells):
                padded = cells + [""] * (len(header) - len(cells))
                yield number, dict(zip(header, padded))  # noqa: B905 - what is longer is empty
    except csv.Error as error:
        raise InvalidInput(f"{path} row {number + 1} is not readable as CSV: {error}.") from error


def _check_extra(path: Path, number: int, cells: list[str], header: list[str]) -> None:
    for column, cell in enumerate(cells[len(header) :], start=len(header) + 1):
        if cell:
            raise InvalidInput(
                f"{path} row {number} has more cells than the header has columns: column {column} holds {cell[:80]!r}."
                " Quote cells that hold the separator."
            )


def _separator(text: str, expected: Callable[[str], bool]) -> tuple[str, str]:
    """The separator, and the text without a line that names it."""
    if named := _NAMED_SEPARATOR.match(text):
        return named[1], text[named.end() :]
    return max(SEPARATORS, key=lambda separator: _expected_columns(text, separator, expected)), text


def _expected_columns(text: str, separator: str, expected: Callable[[str], bool]) -> int:
    try:
        header = next(csv.reader(io.StringIO(text, newline=""), delimiter=separator), [])
    except csv.Error:
        return 0
    return sum(expected(name.strip()) for name in header)


def bad_rows(problems: list[tuple[int, str]], shown: int = 20) -> InvalidInput:
    """One error for all rows of a file that cannot be taken; the first `shown` are spelled out."""
    lines = [f"row {number}: {what}" for number, what in sorted(problems)[:shown]]
    if len(problems) > shown:
        lines.append(f"... and {len(problems) - shown} more")
    plural = "row is" if len(problems) == 1 else "rows are"
    return InvalidInput(
        f"{len(problems)} {plural} not acceptable; nothing was imported.\n" + "\n".join(lines), "BAD_ROWS"
    )
