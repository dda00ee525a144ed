"""Image formats that are not read, known by their first bytes, so that a message names them."""

from __future__ import annotations

# What begins so is an image that is not read: (offset, bytes, its name).
_UNREAD_MAGIC: tuple[tuple[int, bytes, str], ...] = (
    (0, b"II+\x00", "BigTIFF"),
    (0, b"MM\x00+", "BigTIFF"),
    *((4, b"ftyp" + brand, "HEIC") for brand in (b"heic", b"heix", b"hevc", b"mif1", b"msf1", b"heim")),
    *((4, b"ftyp" + brand, "AVIF") for brand in (b"avif", b"avis")),
    (0, b"\x00\x00\x00\x0cjP  \r\n\x87\n", "JPEG 2000"),
    (0, b"\xff\x4f\xff\x51", "JPEG 2000"),
    (0, b"\x00\x00\x00\x0cJXL \r\n\x87\n", "JPEG XL"),
    (0, b"8BPS", "Photoshop"),
    (0, b"v/1\x01", "OpenEXR"),
)


def unread_kind(head: bytes) -> str:
    """The name of an image format that is not read, by a file's first bytes; "" for anything else."""
    return next((name for at, magic, name in _UNREAD_MAGIC if head[at:].startswith(magic)), "")
