"""Grey values of more than 8 bits, brought to the 8 bits that models see.

Without a window the whole range of the file's type maps to 0 .. 255. A 12-bit camera or CT value in a 16-bit file
then fills a sixteenth of it and looks black; an intensity window (DICOM PS3.3, C.11.2) names the part that counts.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from vouch.errors import InvalidInput

Greys = npt.NDArray[Any]
SMALL_PART = 1 / 2
"""An image whose usual values span less than this part of its range is reported."""
USUAL_PART = 0.999
"""The range of values is that between two quantiles, so that a few hot pixels do not widen it."""


@dataclass(frozen=True)
class IntensityWindow:
    """The stored grey values that become 0 (`low` and below) and 255 (`high` and above).

    Example:
        IntensityWindow.parse("0:4095")  # 12-bit data in a 16-bit file
    """

    low: float
    high: float

    @classmethod
    def parse(cls, text: str) -> IntensityWindow:
        """The window of "LOW:HIGH", in stored grey values. Raises `InvalidInput` for anything else."""
        low, colon, high = text.partition(":")
        try:
            window = cls(float(low), float(high))
        except ValueError:
            window = cls(math.nan, math.nan)
        if not colon or not (math.isfinite(window.low) and math.isfinite(window.high)):
            raise InvalidInput(
                f"{text!r} is not a window: write LOW:HIGH in the image's own grey values, such as 0:4095."
            )
        if window.low >= window.high:
            raise InvalidInput(f"The window {text} is empty: LOW must be below HIGH.")
        return window

    def apply(self, values: Greys) -> npt.NDArray[np.uint8]:
        """Values of any number type [H, W] as uint8 [H, W]. Raises `InvalidInput` for NaN."""
        scaled = (values.astype(np.float64) - self.low) / (self.high - self.low)
        if np.isnan(scaled).any():
            raise InvalidInput("The image holds values that are no numbers (NaN).", "UNSUPPORTED_MODE")
        return np.asarray(np.rint(scaled.clip(0, 1) * 255), dtype=np.uint8)


def upper_bits(values: Greys, bits: int) -> npt.NDArray[np.uint8]:
    """The upper 8 of `bits` bits of unsigned values [H, W].

    Raises:
        InvalidInput: floating point, negative values or values of more bits: only a window says what they mean.
    """
    if values.dtype.kind == "f" or values.size == 0 or values.min() < 0 or values.max() >= 1 << bits:
        raise InvalidInput(
            f"Grey values must be 8-bit or 16-bit integers; these are {_described(values)}. Convert the image, or"
            " name the values from black to white (vouch filter --window LOW:HIGH).",
            "UNSUPPORTED_MODE",
        )
    return (values.astype(np.uint32) >> (bits - 8)).astype(np.uint8)


def small_range(values: Greys, bits: int) -> str:
    """A sentence if values [H, W] span a small part of what `bits` bits hold, else ""."""
    if values.dtype.kind == "f" or values.size == 0:
        return ""
    low = int(np.quantile(values, 1 - USUAL_PART, method="lower"))
    high = int(np.quantile(values, USUAL_PART, method="higher"))
    if low < 0 or high >= 1 << bits or (high - low + 1) >= SMALL_PART * (1 << bits):
        return ""
    used = max(8, high.bit_length())
    remedy = ""
    if used < bits:
        remedy = f" If they are {used}-bit data, give --window 0:{(1 << used) - 1}."
    elif low < high:
        remedy = f" Give --window {low}:{high}."
    return (
        f"Nearly all grey values are {low} to {high}, a small part of 0 to {(1 << bits) - 1}, so the picture has little"
        f" contrast.{remedy}"
    )


def _described(values: Greys) -> str:
    if values.size == 0:
        return "none"
    kind = "floating point" if values.dtype.kind == "f" else "integers"
    return f"{kind} from {values.min():g} to {values.max():g}"
