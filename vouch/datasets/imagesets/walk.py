"""What lies in a folder and below it, in a stable order: images, shards, and what is passed over with the reason."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from vouch.datasets.imagesets.items import (
    ARRAY_SUFFIXES,
    ARRAYS,
    HEAD_BYTES,
    HIDDEN,
    IMAGE_SUFFIXES,
    OTHER,
    PARQUET_SUFFIXES,
    TAR_SUFFIXES,
    foreign,
    is_apple_double,
    is_dicom_file,
    is_image,
    suffix_of,
    tells_kind,
)
from vouch.datasets.imagesets.metadata import alike, is_metadata
from vouch.datasets.imagesets.parquet import images_column
from vouch.errors import InvalidInput
from vouch.formats.texts import printable_name

Kind = Literal["image", "dicom", "tar", "parquet", "skipped", "ignored"]


@dataclass(frozen=True)
class Entry:
    """One file, or a folder that is not entered."""

    path: Path
    key: str
    """The path inside the folder that was walked."""
    kind: Kind
    why: str = ""
    """Why it is skipped, or what kind of thing is ignored."""
    beside: Mapping[str, str] = field(default_factory=dict, repr=False)
    """The names in its folder, by themselves and by `alike`."""


def walk(folder: Path) -> Iterator[Entry]:
    """Every entry below `folder`, sorted by name; links to folders are followed, though never round in a circle."""
    yield from _walk(folder, "", (_identity(folder),))


def _walk(folder: Path, prefix: str, above: tuple[tuple[int, int], ...]) -> Iterator[Entry]:
    try:
        # One folder's listing in memory at a time.
        listing = sorted(os.scandir(folder), key=lambda entry: entry.name)
    except OSError as error:
        yield Entry(folder, prefix, "skipped", f"The folder could not be read: {error.strerror}.")
        return
    beside = {alike(entry.name): entry.name for entry in listing} | {e.name: e.name for e in listing}
    for entry in listing:
        path, key = Path(entry.path), prefix + printable_name(entry.name)
        try:
            if not entry.is_dir():
                yield _file(path, key, beside)
            elif entry.name.startswith("."):
                yield from _hidden_folder(path, key + "/")
            elif (identity := _identity(path)) in above:
                yield Entry(path, key, "ignored", "links to a folder above them")
            else:
                yield from _walk(path, key + "/", (*above, identity))
        except OSError as error:
            yield Entry(path, key, "skipped", f"The file could not be looked at: {error.strerror}.")


def _identity(folder: Path) -> tuple[int, int]:
    state = folder.stat()
    return state.st_dev, state.st_ino


def _hidden_folder(folder: Path, key: str) -> Iterator[Entry]:
    """Hidden folders hold tools' state and are not read; one that holds images is named."""
    inside = (Path(place, name) for place, _, names in os.walk(folder) for name in names if name[0] != ".")
    if any(map(_holds_images, inside)):
        yield Entry(folder, key, "skipped", "The folder is hidden (it begins with a dot) and holds images.")
    else:
        yield Entry(folder, key, "ignored", "hidden folders")


def _holds_images(path: Path) -> bool:
    """Whether a file is an image or a set of them, by its name; a Parquet file by its columns."""
    name = path.name.lower()
    if name.endswith(PARQUET_SUFFIXES):
        return _parquet_kind(path)[0] == "parquet"
    return is_image(name, b"") or is_dicom_file(name, b"") or name.endswith(TAR_SUFFIXES)


def _file(path: Path, key: str, beside: Mapping[str, str]) -> Entry:
    kind, why = _kind_of(path)
    if kind == "ignored" and suffix_of(path.name) in ARRAY_SUFFIXES and not _is_of_image(path, beside):
        kind, why = "skipped", ARRAYS
    return Entry(path, key, kind, why, beside)


def _is_of_image(path: Path, beside: Mapping[str, str]) -> bool:
    """Whether a file says something of an image beside it, such as a mask or an embedding."""
    return any(alike(path.stem + suffix) in beside for suffix in IMAGE_SUFFIXES)


def _kind_of(path: Path) -> tuple[Kind, str]:
    name = path.name
    try:
        regular = stat.S_ISREG(path.stat().st_mode)
    except FileNotFoundError:
        return _dangling(path)
    if not regular:
        return ("skipped", "It is no regular file.") if is_image(name, b"") else ("ignored", OTHER)
    head = b"" if tells_kind(name) and not name.startswith(".") else _head(path)
    if is_apple_double(name, head):
        return "ignored", "macOS ._ files"
    if name.startswith("."):
        return ("skipped", HIDDEN) if is_image(name, head) else ("ignored", OTHER)
    if name.lower().endswith(TAR_SUFFIXES):
        return "tar", ""
    if name.lower().endswith(PARQUET_SUFFIXES):
        return _parquet_kind(path)
    if is_dicom_file(name, head):
        return "dicom", ""
    if name.upper() == "DICOMDIR":
        return "ignored", "DICOM directories"
    if reason := foreign(name, head):
        return "skipped", reason
    return ("image", "") if is_image(name, head) else ("ignored", OTHER)


def _dangling(path: Path) -> tuple[Kind, str]:
    """A link to nowhere may be a folder of images on a disk that is not mounted; a note is none."""
    if is_image(path.name, b"") or not suffix_of(path.name):
        return "skipped", "It is a link, and what it points to is not there."
    return "ignored", OTHER


def _parquet_kind(path: Path) -> tuple[Kind, str]:
    try:
        readable, held = images_column(path)
    except InvalidInput:
        return "parquet", ""  # damaged: whoever reads it reports it
    if readable and not (is_metadata(path.name) and not held):
        return "parquet", ""
    if held:
        return "skipped", "The Parquet file has no column `image` that holds images, though another could."
    return "ignored", "Parquet files without images"


def _head(path: Path) -> bytes:
    with path.open("rb") as file:
        return file.read(HEAD_BYTES)
