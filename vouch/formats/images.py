"""Encoded images, safely: nothing is decoded before its kind and size are known to be acceptable."""

from __future__ import annotations

import hashlib
import io
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageOps, UnidentifiedImageError
from PIL.JpegImagePlugin import JpegImageFile

from vouch.errors import InvalidInput
from vouch.formats.intensity import SMALL_PART, USUAL_PART, IntensityWindow, small_range, upper_bits
from vouch.formats.tiffs import register_deep_greys, why_not_read
from vouch.formats.unread import unread_jpeg, unread_kind

MAX_BYTES = 16 * 1024 * 1024
MAX_PIXELS = 16_000_000
MAX_THUMBNAILS = 16
STRIPE_ROWS = 256  # brought to RGB at once: each whole copy of a picture of 16 megapixels would be 64 MB

Pixels = npt.NDArray[np.uint8]
register_deep_greys()

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


def decode(data: bytes, window: IntensityWindow | None = None) -> Pixels:
    """Pixels of an encoded image as uint8 [H, W, 3].

    A rotation stated in EXIF is applied, transparency lies over white, a JPEG that carries further pictures (MPO)
    gives its first. Greys of more than 8 bits keep their upper 8, or what `window` makes of them; 8-bit images are
    not windowed.

    Raises:
        InvalidInput: not an image, more than 16 MiB or 16 megapixels, several frames, truncated, or grey values
            that only a window gives a meaning (floating point, negative). Whatever a decoder trips over is this too.
    """
    with _opened(data) as (image, _):
        image.load()
        if _is_deep(image):
            grey = _oriented(_eight_bits(image, window), image)
            return np.repeat(grey[:, :, None], 3, axis=2)
        return _oriented(_rgb(image), image)


def windowed(data: bytes, window: IntensityWindow) -> bytes:
    """A PNG of what `window` makes of an image of more than 8 bits; any other image as it is. Raises as `decode`."""
    if not _may_be_deep(data):
        return data
    with _opened(data) as (image, _):
        deep = _is_deep(image)
    return encode_png(decode(data, window)) if deep else data


def range_note(data: bytes, window: IntensityWindow | None = None) -> str:
    """A sentence if an image of more than 8 bits uses a small part of its range, else "". Raises as `decode`.

    Decodes only what the header says to be of more than 8 bits. `window` takes care of greys, not of colours.
    """
    if not _may_be_deep(data):
        return ""
    with _opened(data) as (image, _):
        if not _is_deep(image):
            return _dark_note(image) if data.startswith(b"\x89PNG") or _stated_bits(image) > 8 else ""
        image.load()
        return "" if window else small_range(_greys(image), _bits(image))


def _dark_note(image: Image.Image) -> str:
    """Of 16-bit colours, of which Pillow gives the upper 8."""
    counts = np.add.reduce(np.reshape(image.convert("RGB").histogram(), (3, 256)))
    most = int(np.searchsorted(counts.cumsum(), USUAL_PART * counts.sum()))
    if most >= SMALL_PART * 255:
        return ""
    return (
        f"{USUAL_PART:.1%} of the colour values are at most {most} of 255, as of {most.bit_length() + 8}-bit data in a"
        " 16-bit file. Scale the values up first."
    )


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
            with _open(data, kind) as image:
                _check_size(image)
                yield image, media_type
    except InvalidInput:
        raise
    except UnidentifiedImageError as error:
        why = (
            why_not_read(data)
            if kind == "TIFF"
            else f"These bytes begin like {kind} but are not a readable image."
        )
        raise InvalidInput(why, "NOT_AN_IMAGE") from error
    except Image.DecompressionBombError as error:
        raise InvalidInput(_too_many_pixels("far more"), "IMAGE_TOO_LARGE") from error
    except Exception as error:
        # Pillow's decoders raise nearly every kind of exception on odd bytes (TypeError, KeyError, struct.error …).
        raise InvalidInput(
            f"The {kind} image is damaged or truncated ({_why(error)}). Send the whole file again.",
            "IMAGE_DAMAGED",
        ) from error


def _open(data: bytes, kind: str) -> Image.Image:
    if kind != "JPEG":
        return Image.open(io.BytesIO(data), formats=[kind])
    # The class itself, for Image.open makes an MPO of several frames of every camera picture with a preview in it.
    try:
        return JpegImageFile(io.BytesIO(data))
    except (TypeError, ValueError, KeyError, ZeroDivisionError):
        # Sound pixels behind EXIF values of another type, on which Pillow trips when it looks for the resolution.
        bare, exif = _without_exif(data)
        image = JpegImageFile(io.BytesIO(bare))
        image.info["exif"] = exif  # for the orientation
        return image


def _without_exif(data: bytes) -> tuple[bytes, bytes]:
    """A JPEG without its APP1 segments (EXIF and XMP), and its EXIF."""
    kept, exif, at = [data[:2]], b"", 2
    while at + 4 <= len(data) and data[at] == 0xFF and data[at + 1] != 0xDA:
        end = at + 2 + int.from_bytes(data[at + 2 : at + 4], "big")
        if data[at + 1] != 0xE1:
            kept.append(data[at:end])
        elif data[at + 4 : at + 10] == b"Exif\x00\x00":
            exif = data[at + 4 : end]
        at = end
    return b"".join([*kept, data[at:]]), exif


def _why(error: Exception) -> str:
    return " ".join((str(error) or type(error).__name__).split())[:200]


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
    if name := unread_kind(data[:64]) or unread_jpeg(data):
        raise InvalidInput(f"{name} images are not read. Convert it to PNG or TIFF.", "NOT_AN_IMAGE")
    for magic, kind, media_type in _MAGIC:
        if data.startswith(magic) and (kind != "WEBP" or data[8:12] == b"WEBP"):
            return kind, media_type
    raise InvalidInput(
        "These bytes are not an image: send a PNG, JPEG, WebP, BMP or TIFF file.", "NOT_AN_IMAGE"
    )


def _check_size(image: Image.Image) -> None:
    pictures = _pictures(image)
    if pictures > 1:
        raise InvalidInput(
            f"The image has {pictures} frames; send each as a file of its own.", "SEVERAL_FRAMES"
        )
    if image.width < 1 or image.height < 1:
        raise InvalidInput("The image has no pixels.", "NOT_AN_IMAGE")
    if image.width * image.height > MAX_PIXELS:
        raise InvalidInput(_too_many_pixels(f"{image.width} × {image.height}"), "IMAGE_TOO_LARGE")


def _pictures(image: Image.Image) -> int:
    """Frames that are pictures of their own; the image stands at the first. A TIFF's thumbnails are none."""
    frames = getattr(image, "n_frames", 1)
    if not 1 < frames <= MAX_THUMBNAILS or image.format != "TIFF":
        return int(frames)
    whole = []
    for frame in range(frames):
        image.seek(frame)
        if not int(str(_tiff_tag(image, _SUBFILE_TYPE, 0))) & _REDUCED:
            whole.append(frame)
    image.seek(whole[0] if whole else 0)
    return len(whole) or frames


def _too_many_pixels(size: str) -> str:
    return (
        f"The image has {size} pixels; at most {MAX_PIXELS // 10**6} megapixels are accepted. Scale it down."
    )


def _may_be_deep(data: bytes) -> bool:
    """False where the first bytes exclude more than 8 bits: nearly always, and at no cost."""
    if data.startswith(b"\x89PNG"):
        return data[24:25] == b"\x10"
    return data.startswith((b"II*\x00", b"MM\x00*"))


def _is_deep(image: Image.Image) -> bool:
    return image.mode.startswith("I") or image.mode == "F"


def _eight_bits(image: Image.Image, window: IntensityWindow | None) -> Pixels:
    values = _greys(image)
    grey = window.apply(values) if window else upper_bits(values, _bits(image))
    # Pillow turns 8-bit WhiteIsZero images round and leaves deeper ones as they are stored.
    return 255 - grey if _tiff_tag(image, _PHOTOMETRIC, 1) == _WHITE_IS_ZERO else grey


def _greys(image: Image.Image) -> npt.NDArray[np.generic]:
    """The grey values [H, W] as stored. Pillow reads unsigned values of 32 bits as signed ones."""
    values = np.asarray(image)
    unsigned = _first(_tiff_tag(image, _SAMPLE_FORMAT, 1)) == _UNSIGNED
    return (
        values.view(np.uint32)
        if values.dtype == np.int32 and unsigned and _stated_bits(image) == 32
        else values
    )


def _bits(image: Image.Image) -> int:
    """Bits that a grey value may have: what a TIFF states, else 16."""
    bits = _stated_bits(image)
    return bits if 8 < bits < 16 else 16


def _stated_bits(image: Image.Image) -> int:
    """Bits of a sample that a TIFF states; 0 of other kinds."""
    bits = _first(_tiff_tag(image, _BITS_PER_SAMPLE, 0))
    return bits if isinstance(bits, int) else 0


def _first(value: object) -> object:
    return value[0] if isinstance(value, tuple) and value else value


def _tiff_tag(image: Image.Image, tag: int, default: object) -> object:
    return getattr(image, "tag_v2", {}).get(tag, default)


def _rgb(image: Image.Image) -> Pixels:
    if image.mode == "LAB":
        raise InvalidInput("The image is in CIELAB colours. Convert it to RGB first.", "UNSUPPORTED_MODE")
    if _first(_tiff_tag(image, _SAMPLE_FORMAT, 1)) == _SIGNED and _stated_bits(image) == 8:
        raise InvalidInput(
            "The image holds signed values of 8 bits. Convert them to unsigned ones.", "UNSUPPORTED_MODE"
        )
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


def _oriented(pixels: Pixels, image: Image.Image) -> Pixels:
    """Pixels [H, W, …] turned as EXIF states. EXIF that cannot be read states nothing: the pixels are sound."""
    try:
        orientation = image.getexif().get(_ORIENTATION, 1)
    except Exception:  # noqa: BLE001 - a tag of another type raises whatever it likes
        return pixels
    turn = _TURNS.get(orientation) if isinstance(orientation, int) else None
    return np.ascontiguousarray(turn(pixels)) if turn else pixels


# TIFF 6.0, sections 8 and 19
_SUBFILE_TYPE, _BITS_PER_SAMPLE, _PHOTOMETRIC, _ORIENTATION, _SAMPLE_FORMAT = 254, 258, 262, 274, 339
_WHITE_IS_ZERO, _REDUCED, _UNSIGNED, _SIGNED = 0, 1, 1, 2
# Exif 2.32, 4.6.4 A: what brings each orientation to 1. Pillow's own function writes the EXIF anew and fails on tags
# that have nothing to do with the orientation.
_TURNS: dict[int, Callable[[Pixels], Pixels]] = {
    2: lambda pixels: pixels[:, ::-1],
    3: lambda pixels: pixels[::-1, ::-1],
    4: lambda pixels: pixels[::-1],
    5: lambda pixels: pixels.swapaxes(0, 1),
    6: lambda pixels: np.rot90(pixels, -1),
    7: lambda pixels: pixels[::-1, ::-1].swapaxes(0, 1),
    8: lambda pixels: np.rot90(pixels, 1),
}
