"""Encoded images, safely: nothing is decoded before its kind and size are known to be acceptable."""

from __future__ import annotations

import hashlib
import io
import struct
import warnings
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageOps, UnidentifiedImageError

from vouch.errors import InvalidInput

MAX_BYTES = 16 * 1024 * 1024
MAX_PIXELS = 16_000_000
STRIPE_ROWS = 256  # brought to RGB at once: each whole copy of a picture of 16 megapixels would be 64 MB

Pixels = npt.NDArray[np.uint8]

# What each kind of file begins with. Pillow is told the one kind that the first bytes name, so that no
# other of its parsers ever sees a stranger's bytes.
_MAGIC: tuple[tuple[bytes, str, str], ...] = (
    (b"\x89PNG\r\n\x1a\n", "PNG", "image/png"),
    (b"\xff\xd8\xff", "JPEG", "image/jpeg"),
    (b"RIFF", "WEBP", "image/webp"),
    (b"BM", "BMP", "image/bmp"),
    (b"II*\x00", "TIFF", "image/tiff"),
    (b"MM\x00*", "TIFF", "image/tiff"),
    (b"GIF8", "GIF", "image/gif"),
)


@dataclass(frozen=True, kw_only=True)
class ImageInfo:
    """What the header says."""

    width: int  # pixels
    height: int  # pixels
    media_type: str


def digest(data: bytes) -> str:
    """SHA-256 of encoded bytes: the name under which an image is known everywhere."""
    return hashlib.sha256(data).hexdigest()


def inspect(data: bytes) -> ImageInfo:
    """Size and media type from the header; no pixel is decoded.

    Raises:
        InvalidInput: not an image, too large, or of several frames.
    """
    with _opened(data) as (image, media_type):
        return ImageInfo(width=image.width, height=image.height, media_type=media_type)


def decode(data: bytes) -> Pixels:
    """Pixels of an encoded image as uint8 [H, W, 3].

    Rotation stated in EXIF is applied, transparency is laid over white, 16-bit greys keep their upper 8 bits.

    Raises:
        InvalidInput: not an image, more than 16 MiB or 16 megapixels, several frames, or truncated.
    """
    with _opened(data) as (image, _):
        image.load()
        ImageOps.exif_transpose(image, in_place=True)
        return _rgb(image)


def encode_png(pixels: Pixels) -> bytes:
    """A PNG of uint8 [H, W, 3]. The same pixels give the same bytes, so the digest names the picture."""
    if pixels.dtype != np.uint8 or pixels.ndim != 3 or pixels.shape[2] != 3:
        raise InvalidInput(f"An image is uint8 [H, W, 3], not {pixels.dtype} {list(pixels.shape)}.")
    buffer = io.BytesIO()
    Image.fromarray(np.ascontiguousarray(pixels)).save(buffer, "PNG", compress_level=3)
    return buffer.getvalue()


def fitted(pixels: Pixels, width: int, height: int) -> Pixels:
    """Pixels uint8 [height, width, 3] of the middle of a larger image, as much of it as has these proportions.

    Raises:
        InvalidInput: the image is smaller.
    """
    rows, columns = pixels.shape[:2]
    if columns < width or rows < height:
        raise InvalidInput(
            f"The image has {columns} × {rows} pixels; at least {width} × {height} are needed, for enlarged it "
            "would look blurred.",
            "IMAGE_TOO_SMALL",
        )
    if (columns, rows) == (width, height):
        return pixels
    # The filter by which training scales its images: another would leave other traces than a generator learned.
    return np.array(ImageOps.fit(Image.fromarray(pixels), (width, height), Image.Resampling.LANCZOS))


@contextmanager
def _opened(data: bytes) -> Iterator[tuple[Image.Image, str]]:
    kind, media_type = _kind(data)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # our own limit, below Pillow's, decides
            with Image.open(io.BytesIO(data), formats=[kind]) as image:
                _check_size(image)
                yield image, media_type
    except UnidentifiedImageError as error:
        raise InvalidInput(
            f"These bytes begin like {kind} but are not a readable image.", "NOT_AN_IMAGE"
        ) from error
    except Image.DecompressionBombError as error:
        raise InvalidInput(_too_many_pixels("far more"), "IMAGE_TOO_LARGE") from error
    except (OSError, SyntaxError, ValueError, EOFError, IndexError, struct.error, zlib.error) as error:
        raise InvalidInput(
            f"The {kind} image is damaged or truncated ({error}). Send the whole file again.", "IMAGE_DAMAGED"
        ) from error


def _kind(data: bytes) -> tuple[str, str]:
    if not data:
        raise InvalidInput(
            "The image is empty: send the bytes of a PNG, JPEG, WebP, BMP or TIFF file.", "NOT_AN_IMAGE"
        )
    if len(data) > MAX_BYTES:
        raise InvalidInput(
            f"The image has {len(data) / 2**20:.1f} MiB; at most {MAX_BYTES // 2**20} MiB are accepted.",
            "IMAGE_TOO_LARGE",
        )
    for magic, kind, media_type in _MAGIC:
        if data.startswith(magic) and (kind != "WEBP" or data[8:12] == b"WEBP"):
            return kind, media_type
    raise InvalidInput(
        "These bytes are not an image: send a PNG, JPEG, WebP, BMP or TIFF file.", "NOT_AN_IMAGE"
    )


def _check_size(image: Image.Image) -> None:
    if image.width < 1 or image.height < 1:
        raise InvalidInput("The image has no pixels.", "NOT_AN_IMAGE")
    if image.width * image.height > MAX_PIXELS:
        raise InvalidInput(_too_many_pixels(f"{image.width} × {image.height}"), "IMAGE_TOO_LARGE")
    frames = getattr(image, "n_frames", 1)
    if frames != 1:
        raise InvalidInput(
            f"The image has {frames} frames; send each as a file of its own.", "SEVERAL_FRAMES"
        )


def _too_many_pixels(size: str) -> str:
    return (
        f"The image has {size} pixels; at most {MAX_PIXELS // 10**6} megapixels are accepted. Scale it down."
    )


def _rgb(image: Image.Image) -> Pixels:
    if image.mode.startswith("I") or image.mode == "F":
        grey = _eight_bits(np.asarray(image))
        return np.repeat(grey[:, :, None], 3, axis=2)
    out = np.empty((image.height, image.width, 3), np.uint8)
    for top in range(0, image.height, STRIPE_ROWS):
        bottom = min(top + STRIPE_ROWS, image.height)
        out[top:bottom] = np.asarray(_over_white(image.crop((0, top, image.width, bottom))))
    return out


def _over_white(image: Image.Image) -> Image.Image:
    if image.mode in ("RGBA", "LA", "PA") or "transparency" in image.info:
        over = image.convert("RGBA")
        image = Image.alpha_composite(Image.new("RGBA", over.size, "white"), over)
    return image.convert("RGB")


def _eight_bits(values: npt.NDArray[np.generic]) -> Pixels:
    if values.dtype.kind == "f" or values.size == 0 or values.min() < 0 or values.max() > 65535:
        raise InvalidInput(
            "Grey values must be 8-bit or 16-bit integers. Convert the image first.", "UNSUPPORTED_MODE"
        )
    return (values.astype(np.uint32) >> 8).astype(np.uint8)
