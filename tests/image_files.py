"""Image files and sets that tests make for themselves."""

from __future__ import annotations

import io
import struct
import tarfile
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
from PIL import Image

APPLE_DOUBLE = bytes.fromhex("0005160700020000") + b"Mac OS X        " + bytes(60)


def png(level: int, size: int = 8) -> bytes:
    """A PNG of one colour that `level`, 0 to 255, tells from others."""
    out = io.BytesIO()
    Image.new("RGB", (size, size), (level, 0, 255 - level)).save(out, "PNG")
    return out.getvalue()


def encoded(image: Image.Image, kind: str = "PNG", **options: Any) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def write_tar(
    path: Path, members: dict[str, bytes] | Iterable[tuple[str, bytes]], mode: str = "w", **options: Any
) -> Path:
    """A tar of these members in their order; pairs may repeat a name."""
    pairs = members.items() if isinstance(members, dict) else members
    with tarfile.open(path, mode, **options) as tar:  # type: ignore[call-overload]
        for name, data in pairs:
            info = tarfile.TarInfo(name)
            info.size = len(data)
            tar.addfile(info, io.BytesIO(data))
    return path


def write_parquet(path: Path, columns: dict[str, Any]) -> Path:
    pq.write_table(pa.table(columns), path)
    return path


def write_files(folder: Path, files: dict[str, bytes | str]) -> Path:
    """These files below `folder`, whose folders are made."""
    for name, content in files.items():
        file = folder / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(content.encode() if isinstance(content, str) else content)
    return folder


def exif(*entries: tuple[int, int, int, int | bytes]) -> bytes:
    """An EXIF block of (tag, type, count, value) whatever their sense; bytes stand behind the directory."""
    base = 8 + 2 + 12 * len(entries) + 4
    directory, behind = struct.pack("<H", len(entries)), b""
    for tag, kind, count, value in entries:
        if isinstance(value, bytes):
            packed, behind = struct.pack("<I", base + len(behind)), behind + value
        else:
            packed = struct.pack("<HH", value, 0)
        directory += struct.pack("<HHI", tag, kind, count) + packed
    return b"Exif\0\0II*\0" + struct.pack("<I", 8) + directory + bytes(4) + behind


def tiff(rows: list[list[int]], bits: int, photometric: int, order: str = "<") -> bytes:
    """An uncompressed grey TIFF of unsigned values [H][W]; photometric 0 is WhiteIsZero, 1 BlackIsZero.

    order: of the bytes, as `struct` writes it: "<" is little-endian, ">" big-endian.
    """
    kind = {8: "B", 16: "H", 32: "I"}[bits]
    data = b"".join(struct.pack(f"{order}{len(row)}{kind}", *row) for row in rows)
    tags = [(256, len(rows[0])), (257, len(rows)), (258, bits), (259, 1), (262, photometric)]
    tags += [(273, 8 + 2 + 9 * 12 + 4), (277, 1), (278, len(rows)), (279, len(data))]
    directory = b"".join(struct.pack(f"{order}HHII", tag, 4, 1, value) for tag, value in tags)
    magic = {"<": b"II*\0", ">": b"MM\0*"}[order]
    return magic + struct.pack(f"{order}IH", 8, len(tags)) + directory + bytes(4) + data
