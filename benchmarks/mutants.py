"""Damaged images: every usual format and mode, changed where it hurts."""

from __future__ import annotations

import io
import os
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from PIL import Image

from vouch.errors import InvalidInput

SIDE = 24  # pixels
HEADER_BYTES = 300
SLOW_S = 10.0
"""A decoding that takes longer counts as a hang."""


@dataclass
class FuzzOutcome:
    """What decoding mutants came to."""

    tried: int = 0
    decoded: int = 0
    refused: int = 0
    failures: Counter[str] = field(default_factory=Counter)
    """Whatever is neither pixels nor a refusal, by format and exception."""
    examples: dict[str, bytes] = field(default_factory=dict)


def fuzz(decode: Callable[[bytes], Any], count: int, seed: int = 0) -> FuzzOutcome:
    """Decodes `count` mutants; the same `seed` makes the same ones."""
    outcome = FuzzOutcome()
    with _quiet_libraries():
        for kind, data in mutants(count, seed):
            began = time.monotonic()
            failure = _try(decode, data, outcome)
            if not failure and time.monotonic() - began > SLOW_S:
                failure = "hang"
            if failure:
                outcome.failures[f"{kind} {failure}"] += 1
                outcome.examples.setdefault(f"{kind} {failure}", data)
    return outcome


def _try(decode: Callable[[bytes], Any], data: bytes, outcome: FuzzOutcome) -> str:
    """What is neither pixels nor a refusal, in words; "" otherwise."""
    outcome.tried += 1
    try:
        pixels = decode(data)
    except InvalidInput:
        outcome.refused += 1
        return ""
    except Exception as error:  # noqa: BLE001 - this is what is looked for
        return f"{type(error).__name__}: {str(error)[:80]}"
    if not (isinstance(pixels, np.ndarray) and pixels.dtype == np.uint8):
        return "no pixels"
    outcome.decoded += 1
    return ""


@contextmanager
def _quiet_libraries() -> Iterator[None]:
    """libtiff and libjpeg write what they think of each mutant to the process's standard error."""
    kept = os.dup(2)
    with open(os.devnull, "wb") as nothing:
        os.dup2(nothing.fileno(), 2)
    try:
        yield
    finally:
        os.dup2(kept, 2)
        os.close(kept)


def mutants(count: int, seed: int = 0) -> Iterator[tuple[str, bytes]]:
    """(format, bytes) of `count` damaged images, each format in its turn."""
    rng = np.random.default_rng(seed)
    whole = list(sound_images().items())
    for number in range(count):
        kind, data = whole[number % len(whole)]
        yield kind, damaged(data, rng)


def damaged(data: bytes, rng: np.random.Generator) -> bytes:
    """Up to five bytes changed behind the magic number, half of the time in the header alone; one in ten is cut."""
    mutant = bytearray(data)
    end = len(mutant) if rng.random() < 0.5 else min(len(mutant), HEADER_BYTES)
    for _ in range(rng.integers(1, 6)):
        mutant[rng.integers(4, end)] = rng.choice([0, 1, 2, 127, 128, 255, rng.integers(0, 256)])
    if rng.random() < 0.1:
        mutant = mutant[: rng.integers(8, len(mutant))]
    return bytes(mutant)


def sound_images() -> dict[str, bytes]:
    """A small image in every format and mode that is read, with EXIF where the format has it."""
    rng = np.random.default_rng(0)
    colour = Image.fromarray(rng.integers(0, 256, (SIDE, SIDE, 3), dtype=np.uint8))
    grey = Image.fromarray(np.arange(SIDE * SIDE, dtype=np.uint16).reshape(SIDE, SIDE) * 100)
    big_endian = Image.fromarray(np.asarray(grey).astype(">u2"))
    real = Image.fromarray(rng.random((SIDE, SIDE), dtype=np.float32))
    exif = Image.Exif()
    exif[0x0112], exif[0x011A], exif[0x010F] = 6, 72.0, "maker"
    xmp = b'<x:xmpmeta tiff:Orientation="6"/>'
    return {
        "jpeg": _encoded(colour, "JPEG", exif=exif),
        "jpeg xmp": _encoded(colour, "JPEG", exif=exif, xmp=xmp),
        "jpeg cmyk": _encoded(colour.convert("CMYK"), "JPEG"),
        "jpeg progressive": _encoded(colour, "JPEG", progressive=True),
        "mpo": _encoded(colour, "MPO", save_all=True, append_images=[colour]),
        "png": _encoded(colour, "PNG", exif=exif),
        "png palette": _encoded(colour.quantize(8), "PNG", transparency=0),
        "png 16-bit": _encoded(grey, "PNG"),
        "png alpha": _encoded(colour.convert("RGBA"), "PNG"),
        "tiff": _encoded(colour, "TIFF", exif=exif),
        "tiff lzw": _encoded(colour, "TIFF", compression="tiff_lzw"),
        "tiff jpeg": _encoded(colour, "TIFF", compression="jpeg"),
        "tiff 16-bit": _encoded(grey, "TIFF"),
        "tiff 16-bit big-endian": _encoded(big_endian, "TIFF"),
        "tiff float": _encoded(real, "TIFF"),
        "webp": _encoded(colour, "WEBP", exif=exif),
        "webp lossless": _encoded(colour.convert("RGBA"), "WEBP", lossless=True),
        "gif": _encoded(colour, "GIF"),
        "bmp": _encoded(colour, "BMP"),
    }


def _encoded(image: Image.Image, kind: str, **options: Any) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()
