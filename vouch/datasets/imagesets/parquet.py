"""Image sets as Parquet files: a column ``image`` of bytes, structs {bytes, path}, paths, or lists of these."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path, PurePosixPath
from typing import Any
from urllib.parse import unquote, urlsplit

from vouch.datasets.imagesets.items import MAX_IMAGE_BYTES, Skip, SourceImage, size_problem
from vouch.datasets.imagesets.prompts import (
    ANY_COLUMNS,
    LABEL_COLUMN,
    PROMPT_COLUMNS,
    ImageText,
    TableColumns,
    Unreadable,
    int_or_none,
    known_columns,
    words_of_row,
)
from vouch.errors import InvalidInput
from vouch.formats.csv_tables import check_unique

PARQUET_ROWS = 32
"""Rows held decoded at a time."""
_NO_VALUE = "__HIVE_DEFAULT_PARTITION__"
_WORDS = (*PROMPT_COLUMNS, LABEL_COLUMN)


class ParquetSet:
    """One Parquet file; the key is the row's number from 0, in eight digits.

    prefix: the file's own key in a larger set, and a slash. Folders named ``column=value`` in it are columns.
    root: the folder that paths of images never leave; by default the file's own.
    """

    layout = "Parquet rows"

    def __init__(
        self, path: Path, columns: TableColumns = ANY_COLUMNS, prefix: str = "", root: Path | None = None
    ) -> None:
        self.path = path
        self.ignored: Counter[str] = Counter()
        self._columns, self._prefix, self._root = columns, prefix, root or path.parent

    def count(self) -> int | None:
        """Its rows."""
        with _readable(self.path), _open(self.path) as file:
            return int(file.metadata.num_rows)

    def images(self, skip: Skip | None = None) -> Iterator[SourceImage]:
        """Every image; a row with a list of them yields each under a key of its own."""
        number, partition = -1, _partition(self._prefix)
        for number, row in enumerate(_rows(self.path, self._columns)):
            row = partition | row
            cell = row.pop("image")
            cells = (cell or [None]) if isinstance(cell, list) else [cell]
            for place, one in enumerate(cells):
                key = f"{self._prefix}{number:08d}" + (f"/{place}" if len(cells) > 1 else "")
                if not (skip and skip(key)):
                    yield self._image(key, one, words_of_row(row, f"Row {number}", self._columns))
        if number < 0 and not self._prefix:
            raise InvalidInput(f"{self.path} holds no row.")

    def _image(self, key: str, cell: Any, words: ImageText) -> SourceImage:
        try:
            data, problem = _bytes_of(cell, self.path.parent, self._root)
        except Exception as error:  # noqa: BLE001 - one odd row must not end the set
            data, problem = b"", f"The row's image could not be read ({type(error).__name__}: {error})."
        return words.on(key, data, problem or size_problem(len(data)))


def images_column(path: Path) -> tuple[bool, bool]:
    """(whether the file has an image column, whether any column could hold images by its type).

    Raises:
        InvalidInput: not a Parquet file.
    """
    with _readable(path), _parquet(path) as file:
        schema = file.schema_arrow
        held = any(_holds_image(field.type, paths=False) for field in schema)
        return "image" in schema.names and _holds_image(schema.field("image").type), held


@contextmanager
def _readable(path: Path) -> Iterator[None]:
    """Refuses a damaged file: at its footer, at a name in it that is no UTF-8, or at a row."""
    import pyarrow as pa

    try:
        yield
    except (pa.ArrowException, OSError, UnicodeDecodeError) as error:
        raise InvalidInput(
            f"{path} cannot be read as Parquet ({_first_line(error)}). Copy it again, or write it anew."
        ) from error


def _parquet(path: Path) -> Any:
    import pyarrow.parquet as pq

    # Mapped and not pre-buffered: a row group may be larger than memory.
    return pq.ParquetFile(path, memory_map=True, pre_buffer=False)


def _open(path: Path) -> Any:
    file = _parquet(path)
    names = file.schema_arrow.names
    try:
        check_unique(path, names)
        if "image" not in names or not _holds_image(file.schema_arrow.field("image").type):
            kinds = ", ".join(f"{f.name} ({f.type})" for f in file.schema_arrow) or "none"
            raise InvalidInput(
                f"{path} has no image column; its columns are: {kinds[:1000]}. Name the column `image`"
                " and make it plain bytes, a struct {bytes, path}, or paths of files beside the Parquet file."
            )
    except InvalidInput:
        file.close()
        raise
    return file


def _holds_image(kind: Any, *, paths: bool = True) -> bool:
    """Whether a column of this type can hold images: as bytes, or (`paths`) as names of files."""
    import pyarrow.types as pt

    kind = _value_type(kind)
    if pt.is_list(kind) or pt.is_large_list(kind) or pt.is_fixed_size_list(kind):
        return _holds_image(kind.value_type, paths=paths)
    if pt.is_struct(kind):
        names = [kind.field(i).name for i in range(kind.num_fields)]
        return "bytes" in names or ("path" in names and paths)
    return _is_binary(kind) or (paths and _is_text(kind))


def _value_type(kind: Any) -> Any:
    import pyarrow.types as pt

    return kind.value_type if pt.is_dictionary(kind) else kind


def _is_binary(kind: Any) -> bool:
    import pyarrow.types as pt

    return bool(pt.is_binary(kind) or pt.is_large_binary(kind) or pt.is_binary_view(kind))


def _is_text(kind: Any) -> bool:
    import pyarrow.types as pt

    kind = _value_type(kind)
    return bool(pt.is_string(kind) or pt.is_large_string(kind) or pt.is_string_view(kind))


def _rows(path: Path, told: TableColumns) -> Iterator[dict[str, Any]]:
    with _readable(path), _open(path) as file:
        schema = file.schema_arrow
        names, classes = known_columns(schema.names), _class_names(schema)
        words = [
            f.name
            for f in schema
            if names[f.name] in _WORDS
            or told.names_patient(names[f.name])
            or _is_text(f.type)
            or f.name in classes
        ]
        wanted = ["image", *(name for name in words if name != "image")]
        for batch in file.iter_batches(batch_size=PARQUET_ROWS, columns=wanted):
            columns = {name: batch.column(name) for name in wanted}
            for number in range(batch.num_rows):
                row = {name: _cell(column, number) for name, column in columns.items()}
                yield row | {name: _named(row[name], classes[name]) for name in classes}


def _cell(column: Any, number: int) -> Any:
    try:
        return column[number].as_py()
    except Exception as error:  # noqa: BLE001 - text that is no UTF-8, a value that Python cannot hold
        return Unreadable(f"the cell is not readable ({type(error).__name__}: {error})")


def _partition(key: str) -> dict[str, str]:
    """The columns that a file's folders spell, as pandas and Spark write them: ``label=neutrophil/part-0.parquet``."""
    pairs = (part.partition("=") for part in PurePosixPath(key).parts[:-1])
    columns = {unquote(name): unquote(value) for name, equals, value in pairs if name and equals}
    return {name: value for name, value in columns.items() if value != _NO_VALUE and name != "image"}


def _class_names(schema: Any) -> dict[str, list[str]]:
    """The words behind the class numbers of columns, as `datasets` keeps them in the file's metadata."""
    try:
        features = json.loads((schema.metadata or {})[b"huggingface"])["info"]["features"].items()
    except (KeyError, TypeError, ValueError, AttributeError):
        return {}
    lists = {column: kind["names"] for column, kind in features if isinstance(kind, dict) and "names" in kind}
    return {
        column: [str(name) for name in names]
        for column, names in lists.items()
        if column in schema.names and column != "image" and isinstance(names, list)
    }


def _named(label: Any, classes: list[str]) -> Any:
    if isinstance(label, float):
        label = int_or_none(label)
    if isinstance(label, int) and not isinstance(label, bool) and 0 <= label < len(classes):
        return classes[label]
    return label


def _bytes_of(cell: Any, folder: Path, root: Path) -> tuple[bytes, str]:
    """The image of a cell, and why there is none."""
    if isinstance(cell, Unreadable):
        return b"", f"The row's image is unreadable: {cell.why}."
    data, path = (cell.get("bytes"), cell.get("path")) if isinstance(cell, dict) else (cell, None)
    if isinstance(data, str):
        data, path = None, data
    if data:
        return data, ""
    if path:
        return _file_named(path, folder, root)
    return b"", "The image is empty: the row has neither bytes nor a path."


def _file_named(path: str, folder: Path, root: Path) -> tuple[bytes, str]:
    """The file that a row names, relative to the Parquet file's folder or to the set's, and why there is none."""
    name = unquote(urlsplit(path).path) if path.startswith("file://") else path.replace("\\", "/")
    files = [(base.resolve() / name).resolve() for base in (folder, root)]
    inside = [file for file in files if file.is_relative_to(root.resolve())]
    shown = path if len(path) <= 200 else f"{path[:200]}…"
    if not inside:
        return b"", f"The row has only the path {shown!r}, which leads out of the set; it is not followed."
    file = next((file for file in inside if file.is_file()), None)
    if file is None:
        return b"", f"The row has only the path {shown!r}, and there is no such file in the set."
    size = file.stat().st_size
    return (b"", size_problem(size)) if size > MAX_IMAGE_BYTES else (file.read_bytes(), "")


def _first_line(error: BaseException) -> str:
    return (str(error) or type(error).__name__).splitlines()[0].rstrip(".")
