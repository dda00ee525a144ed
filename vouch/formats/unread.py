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


# ITU-T T.81, table B.1; T.87, C.1.1. Baseline, extended and progressive frames are read, if of 8 bits.
_FRAMES_READ = (0xC0, 0xC1, 0xC2, 0xC9, 0xCA)
_FRAMES_NOT_READ = {
    0xC3: "Lossless JPEG",
    0xCB: "Lossless JPEG",
    **dict.fromkeys((0xC5, 0xC6, 0xC7, 0xCD, 0xCE, 0xCF), "Hierarchical JPEG"),
    0xF7: "JPEG-LS",
}
_START_OF_SCAN = 0xDA


def unread_jpeg(data: bytes) -> str:
    """The name of a kind of JPEG that is not read, by its frame header; "" for one that is, and for anything else."""
    at = 2
    while data.startswith(b"\xff\xd8") and at + 5 <= len(data) and data[at] == 0xFF:
        marker, precision = data[at + 1], data[at + 4]
        if marker == 0xFF:  # a fill byte
            at += 1
            continue
        if marker in _FRAMES_READ:
            return "" if precision == 8 else f"{precision}-bit JPEG"
        if marker in _FRAMES_NOT_READ or marker == _START_OF_SCAN:
            return _FRAMES_NOT_READ.get(marker, "")
        at += 2 + int.from_bytes(data[at + 2 : at + 4], "big")
    return ""
