"""The pixels of a DICOM image as a screen shows them: 8 bits, light on dark.

The order is that of DICOM PS3.3, C.11: stored values → modality LUT or rescale → window (VOI) → photometric
interpretation. Needs `pydicom` (``vouch[dicom]``), and no torch.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from vouch.errors import InvalidInput
from vouch.formats.intensity import IntensityWindow

if TYPE_CHECKING:
    from pydicom import Dataset

Values = npt.NDArray[Any]
Picture = npt.NDArray[np.uint8]

GREYS = ("MONOCHROME1", "MONOCHROME2")
COLOURS = ("RGB", "YBR_FULL", "YBR_FULL_422", "YBR_ICT", "YBR_RCT")
PALETTE = "PALETTE COLOR"

NO_WINDOW = (
    "The DICOM file has no window (VOI): its darkest value is black and its brightest white. Name the values"
    " with --window LOW:HIGH for the same contrast in every image."
)


def picture(header: Dataset, stored: Values, window: IntensityWindow | None = None) -> tuple[Picture, str]:
    """The picture of stored values [H, W] or [H, W, 3], as uint8 [H, W] or [H, W, 3], and a note ("" without).

    stored: as `pydicom.pixels.pixel_array` gives them: colours are RGB. window: of values after the modality LUT, such
    as Hounsfield units; by default the first window that the file has.

    Raises:
        InvalidInput: a photometric interpretation that is not read.
    """
    kind = photometric(header)
    if kind == PALETTE:
        from pydicom.pixels import apply_color_lut

        return _to_bytes(apply_color_lut(stored, header)), ""
    if kind in COLOURS:
        return _to_bytes(stored, int(header.BitsStored)), ""
    return _grey(header, stored, window)


def photometric(header: Dataset) -> str:
    """The photometric interpretation. Raises `InvalidInput` for one that is not read."""
    kind = str(header.get("PhotometricInterpretation", "") or "none")
    if kind not in (*GREYS, *COLOURS, PALETTE):
        known = ", ".join((*GREYS, *COLOURS, PALETTE))
        raise InvalidInput(
            f"The DICOM photometric interpretation {kind[:32]!r} is not read. These are: {known}.",
            "DICOM_UNSUPPORTED",
        )
    return kind


def _grey(header: Dataset, stored: Values, window: IntensityWindow | None) -> tuple[Picture, str]:
    from pydicom.pixels import apply_modality_lut

    padding = _padding(header, stored)
    values, note = apply_modality_lut(stored, header), ""
    if window is not None:
        grey = window.apply(values)
    elif header.get("VOILUTSequence"):
        grey = _through_lut(header, values)
    elif (named := _window(header)) is not None:
        grey = _windowed(values, *named)
    else:
        grey, note = _whole_range(values, padding), NO_WINDOW
    if header.PhotometricInterpretation == "MONOCHROME1":  # the lowest value is white
        grey = 255 - grey
    grey[padding] = 0  # around the image, whichever way it is shown
    return grey, note


def _padding(header: Dataset, stored: Values) -> npt.NDArray[np.bool_]:
    """Where there is no image: PixelPaddingValue, or the range that it begins (PS3.3, C.7.5.1.1.2)."""
    first, last = header.get("PixelPaddingValue"), header.get("PixelPaddingRangeLimit")
    if not isinstance(first, int):
        return np.zeros(stored.shape, bool)
    other = last if isinstance(last, int) else first
    return np.asarray((stored >= min(first, other)) & (stored <= max(first, other)))


def _through_lut(header: Dataset, values: Values) -> Picture:
    from pydicom.pixels import apply_voi

    looked_up = apply_voi(np.rint(values).astype(np.int64), header)
    bits = int(header.VOILUTSequence[0].LUTDescriptor[2])
    return IntensityWindow(0, (1 << bits) - 1).apply(looked_up)


def _window(header: Dataset) -> tuple[float, float, str] | None:
    """Centre, width and function of the file's first window; None without a usable one."""
    centre, width = _first(header.get("WindowCenter")), _first(header.get("WindowWidth"))
    function = str(header.get("VOILUTFunction") or "LINEAR")
    least = 1.0 if function == "LINEAR" else 0.0
    if centre is None or width is None or width < least or width == 0:
        return None
    return centre, width, function


def _first(value: Any) -> float | None:
    if value is not None and not isinstance(value, (str, int, float)) and hasattr(value, "__getitem__"):
        value = value[0] if len(value) else None
    try:
        return None if value is None else float(value)
    except ValueError:
        return None


def _windowed(values: Values, centre: float, width: float, function: str) -> Picture:
    """PS3.3, C.11.2.1.2 (LINEAR), C.11.2.1.3.1 (SIGMOID) and C.11.2.1.3.2 (LINEAR_EXACT), with y from 0 to 255."""
    x = values.astype(np.float64)
    if function == "SIGMOID":
        share = 1 / (1 + np.exp(np.clip(-4 * (x - centre) / width, -700, 700)))
    elif function == "LINEAR_EXACT":
        share = (x - centre) / width + 0.5
    elif width == 1:
        share = (x > centre - 0.5).astype(np.float64)
    else:
        share = (x - (centre - 0.5)) / (width - 1) + 0.5
    return np.asarray(np.rint(share.clip(0, 1) * 255), np.uint8)


def _whole_range(values: Values, padding: npt.NDArray[np.bool_]) -> Picture:
    image = values[~padding]
    low, high = (float(image.min()), float(image.max())) if image.size else (0.0, 0.0)
    return IntensityWindow(low, max(high, low + 1)).apply(values)


def _to_bytes(colours: Values, bits: int = 16) -> Picture:
    """Colours [H, W, 3] of `bits` bits as uint8."""
    if colours.dtype == np.uint8:
        return np.ascontiguousarray(colours[..., :3])
    if int(colours.max(initial=0)) > 255:
        colours = colours >> (bits - 8)
    return np.ascontiguousarray(colours[..., :3].astype(np.uint8))
