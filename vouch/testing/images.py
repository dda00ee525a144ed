"""The images of the fake server, without an image library."""

from __future__ import annotations

import functools
import hashlib
import struct
import zlib

from vouch.errors import InvalidInput

SIZE = 16
"""Pixels of an edge."""
LABELS = ("lymphocyte", "neutrophil", "platelet")
"""The classes that prompts may begin with."""
_SIGNATURE = b"\x89PNG\r\n\x1a\n"


def flat_png(seed: int) -> bytes:
    """The image of a seed: a PNG of 16 × 16 pixels, all of the grey level `seed % 256`."""
    row = b"\0" + bytes([seed % 256]) * 3 * SIZE
    header = struct.pack(">IIBBBBB", SIZE, SIZE, 8, 2, 0, 0, 0)
    chunks = ((b"IHDR", header), (b"IDAT", zlib.compress(row * SIZE)), (b"IEND", b""))
    return _SIGNATURE + b"".join(_chunk(kind, data) for kind, data in chunks)


def digest(data: bytes) -> str:
    """The digest of an image: SHA-256 of its bytes."""
    return hashlib.sha256(data).hexdigest()


def brightness(data: bytes) -> float:
    """Mean brightness of an encoded image, 0 to 1. Raises InvalidInput if the bytes are no image."""
    if (level := _flat_levels().get(data)) is not None:
        return level / 255
    from vouch.formats import images  # only an image that flat_png did not make needs the extra `formats`

    return float(images.decode(data).mean()) / 255


@functools.cache
def _flat_levels() -> dict[bytes, int]:
    """The grey level of each of the 256 images that `flat_png` makes."""
    return {flat_png(level): level for level in range(256)}


def check_prompt(prompt: str) -> None:
    """Raises InvalidInput for a prompt that begins with none of LABELS."""
    if prompt.partition(",")[0] not in LABELS:
        known = ", ".join(LABELS)
        raise InvalidInput(f"Unknown word in {prompt!r}. Known: {known}.", "UNKNOWN_LABEL")


def _chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
