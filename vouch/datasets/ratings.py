"""Ratings as files: CSV for spreadsheets, Parquet for pipelines. A written file is read again exactly.

One row per rating, one column `answer.<criterion>` per criterion. Reading checks every row and names each invalid one.
"""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Callable, Iterable, Iterator, Mapping
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

from vouch.errors import InvalidInput, NotFound
from vouch.formats.csv_tables import bad_rows, check_unique, read_csv
from vouch.formats.escapes import from_cell, to_cell
from vouch.storage.atomic import write_whole
from vouch.types.rating import MAX_DURATION_MS, Preference, Rating

ANSWER = "answer."
_TEXTS = ("id", "request_id", "image", "generator_version", "rater", "kind", "domain", "verdict")
_TAIL = ("preference_other", "preference_preferred", "text", "ui_version", "supersedes")
COLUMNS = (*_TEXTS, *_TAIL, "duration_ms", "created_at")
_NEEDED = frozenset({"id", "request_id", "image", "rater", "kind", "domain", "verdict", "created_at"})


def write_ratings(path: str | Path, ratings: Iterable[Rating]) -> int:
    """Write ratings in their order to a .csv or .parquet file, and return their number.

    Raises:
        InvalidInput: another suffix.
        NotFound: no such folder.
        StorageFull: no space left; an existing file is unchanged.
    """
    path = Path(path)
    write = _format(path, {".csv": _to_csv, ".parquet": _to_parquet})
    rows = [_row(rating) for rating in ratings]
    criteria = dict.fromkeys(name for row in rows for name in row if name.startswith(ANSWER))
    if not path.parent.is_dir():
        raise NotFound(f"There is no folder {path.parent} to write {path.name} into.")
    write_whole(path, write(rows, [*COLUMNS, *criteria]))
    return len(rows)


def read_ratings(path: str | Path) -> list[tuple[int, Rating]]:
    """The ratings of a file that `write_ratings` wrote, each with its row number; the row after the header is row 1.

    Raises:
        NotFound: no such file.
        InvalidInput: not a readable file, missing columns, or invalid rows, each named by its number.
    """
    path = Path(path)
    read = _format(path, {".csv": _from_csv, ".parquet": _from_parquet})
    if not path.is_file():
        raise NotFound(f"There is no file {path}.")
    numbered, problems = [], []
    for number, row in read(path):
        try:
            numbered.append((number, _rating(row)))
        except ValueError as error:
            problems.append((number, str(error)))
        except Exception as error:  # noqa: BLE001 - whatever a cell holds is that row's problem
            problems.append((number, f"it cannot be read ({type(error).__name__}: {error})"))
    if problems:
        raise bad_rows(problems)
    return numbered


def _format(path: Path, by_suffix: Mapping[str, Callable[..., Any]]) -> Callable[..., Any]:
    try:
        return by_suffix[path.suffix.lower()]
    except KeyError:
        raise InvalidInput(f"{path.name}: ratings are kept as {' or '.join(by_suffix)} files.") from None


def _row(rating: Rating) -> dict[str, Any]:
    row: dict[str, Any] = {
        name: getattr(rating, name) for name in COLUMNS if not name.startswith("preference_")
    }
    row["preference_other"] = rating.preference.other if rating.preference else ""
    row["preference_preferred"] = rating.preference.preferred if rating.preference else ""
    row.update({f"{ANSWER}{criterion}": answer for criterion, answer in rating.answers.items()})
    return row


def _rating(row: Mapping[str, Any]) -> Rating:
    """Raises ValueError with what is wrong."""
    row = {name: None if _is_nan(value) else value for name, value in row.items()}
    for name in _NEEDED:
        if not row.get(name):
            raise ValueError(f"{name} is empty")
    texts = {name: str(row.get(name) or "") for name in (*_TEXTS, *_TAIL)}
    other, preferred = texts.pop("preference_other"), texts.pop("preference_preferred")
    answers = {
        name[len(ANSWER) :]: str(value) for name, value in row.items() if name.startswith(ANSWER) and value
    }
    return Rating(
        **texts,  # type: ignore[arg-type]  # the catalog checks kind and verdict
        answers=answers,  # type: ignore[arg-type]
        preference=Preference(other=other, preferred=preferred) if other or preferred else None,
        duration_ms=_duration(row.get("duration_ms")),
        created_at=_moment(row["created_at"]),
    )


def _duration(value: Any) -> int:
    try:
        duration = float(value or 0)
    except ValueError:
        raise ValueError(f"duration_ms is not a whole number: {_short(value)}") from None
    except OverflowError:
        duration = math.inf
    if not 0 <= duration <= MAX_DURATION_MS:
        raise ValueError(f"duration_ms must be 0 to {MAX_DURATION_MS}, one day, not {_short(value)}")
    if not duration.is_integer():
        raise ValueError(f"duration_ms is not a whole number: {_short(value)}")
    return int(duration)


def _is_nan(value: Any) -> bool:
    """Whether it is how pandas writes an empty cell into a column of numbers."""
    return isinstance(value, float) and math.isnan(value)


def _moment(value: Any) -> datetime:
    try:
        moment = (
            value
            if isinstance(value, datetime)
            else datetime.fromisoformat(str(value).replace("Z", "+00:00"))
        )
    except ValueError:
        raise ValueError(
            f"created_at is not a time such as 2026-01-31T12:00:00+00:00: {_short(value)}"
        ) from None
    if moment.tzinfo is None:
        raise ValueError(f"created_at has no time zone: {_short(value)}")
    try:
        return moment.astimezone(timezone.utc)
    except OverflowError:
        raise ValueError(f"created_at is not within the years 1 to 9999: {_short(value)}") from None


def _short(value: Any, most: int = 80) -> str:
    """A cell in a message."""
    text = repr(value)
    return text if len(text) <= most else f"{text[:most]}…"


def _to_csv(rows: list[dict[str, Any]], columns: list[str]) -> bytes:
    buffer = io.StringIO(newline="")
    # Everything quoted, so that a text's own line ends and spaces survive spreadsheets.
    writer = csv.DictWriter(buffer, columns, restval="", quoting=csv.QUOTE_ALL, lineterminator="\n")
    writer.writeheader()
    writer.writerows(map(_cells, rows))
    return buffer.getvalue().encode("utf-8")


def _cells(row: Mapping[str, Any]) -> dict[str, Any]:
    texts = {name: to_cell(value) if isinstance(value, str) else value for name, value in row.items()}
    return {**texts, "created_at": row["created_at"].isoformat(timespec="microseconds")}


def _from_csv(path: Path) -> Iterator[tuple[int, Mapping[str, Any]]]:
    columns, rows = read_csv(path, path.read_bytes(), _is_known, full_rows=True)
    if "" in columns:
        raise InvalidInput(
            f"{path} column {columns.index('') + 1} has no name. Name it or remove it; pandas writes one for its "
            "index (to_csv(index=False) does not)."
        )
    _check_columns(path, columns)
    for number, row in rows:
        yield number, {name: from_cell(cell) if cell else cell for name, cell in row.items()}


def _to_parquet(rows: list[dict[str, Any]], columns: list[str]) -> bytes:
    import pyarrow as pa
    import pyarrow.parquet as pq

    kinds = {"duration_ms": pa.int64(), "created_at": pa.timestamp("us", tz="UTC")}
    schema = pa.schema([(name, kinds.get(name, pa.string())) for name in columns])
    table = pa.Table.from_pylist([{**dict.fromkeys(columns), **row} for row in rows], schema=schema)
    sink = pa.BufferOutputStream()
    pq.write_table(table, sink)
    return bytes(sink.getvalue().to_pybytes())


def _from_parquet(path: Path) -> Iterator[tuple[int, Mapping[str, Any]]]:
    import pyarrow as pa
    import pyarrow.parquet as pq

    number = 0
    try:
        file = pq.ParquetFile(path)
        check_unique(path, file.schema_arrow.names)
        _check_columns(path, file.schema_arrow.names)
        for batch in file.iter_batches():
            for row in batch.to_pylist():
                number += 1
                yield number, row
    except (pa.ArrowException, OSError, UnicodeDecodeError) as error:
        raise InvalidInput(f"{path} is not a readable Parquet file: {error}.") from error


def _is_known(column: str) -> bool:
    return column in COLUMNS or column.startswith(ANSWER)


def _check_columns(path: Path, columns: list[str]) -> None:
    missing = sorted(_NEEDED - set(columns))
    if missing:
        present = ", ".join(map(repr, columns)) or "none"
        raise InvalidInput(
            f"{path} lacks the columns {', '.join(missing)}. Its header has {present[:500]}.",
            "MISSING_COLUMNS",
        )
    unknown = sorted(name for name in columns if not _is_known(name))
    if unknown:
        raise InvalidInput(
            f"{path} has columns that mean nothing here: {', '.join(unknown)}. Known are {', '.join(COLUMNS)} "
            f"and {ANSWER}<criterion>.",
            "UNKNOWN_COLUMNS",
        )
