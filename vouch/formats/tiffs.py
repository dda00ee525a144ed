"""TIFF beyond what Pillow's table of pixel layouts lists."""

from __future__ import annotations

import io
import warnings

from PIL.TiffImagePlugin import II, MM, OPEN_INFO, ImageFileDirectory_v2

_WIDTH, _HEIGHT, _BITS_PER_SAMPLE, _COMPRESSION, _PHOTOMETRIC, _SAMPLE_FORMAT = 256, 257, 258, 259, 262, 339
_SAMPLE_FORMATS = {1: "unsigned", 2: "signed", 3: "floating point", 4: "untyped", 5: "complex", 6: "complex"}


def register_deep_greys() -> None:
    """Teach Pillow the grey layouts of more than 8 bits that its table lacks.

    The bytes are laid out as in a listed layout: 12 packed bits have no byte order, and WhiteIsZero differs from
    BlackIsZero by meaning alone. Pillow leaves such values as they are stored.
    """
    OPEN_INFO.setdefault((MM, 1, (1,), 1, (12,), ()), OPEN_INFO[II, 1, (1,), 1, (12,), ()])
    OPEN_INFO.setdefault((MM, 1, (1,), 1, (32,), ()), ("I", "I;32B"))
    for (order, photometric, formats, fill, bits, extra), mode in list(OPEN_INFO.items()):
        if photometric == 1 and len(bits) == 1 and bits[0] > 8:
            OPEN_INFO.setdefault((order, 0, formats, fill, bits, extra), mode)


def why_not_read(data: bytes) -> str:
    """Why Pillow does not open a TIFF, as sentences: its layout, or a directory that is damaged."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of damaged tags, which are reported below
            tags = ImageFileDirectory_v2(data[:8])
            file = io.BytesIO(data)
            file.seek(tags.next)
            tags.load(file)
            tags[_WIDTH], tags[_HEIGHT]  # without them it is no directory of an image
            bits, formats = tags.get(_BITS_PER_SAMPLE, (1,)), tags.get(_SAMPLE_FORMAT, (1,))
            layout = f"{'+'.join(map(str, bits))} bits {_SAMPLE_FORMATS.get(formats[0], 'unknown')}"
            kind = f"photometric interpretation {tags.get(_PHOTOMETRIC, 0)}, compression {tags.get(_COMPRESSION, 1)}"
    except Exception:  # noqa: BLE001 - tags of another type raise nearly everything
        return "This TIFF is damaged: its directory is not readable. Send the whole file again."
    return f"This kind of TIFF is not read ({layout}, {kind}). Save it as PNG."
