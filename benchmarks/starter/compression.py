"""Images as the real ones are stored.

The cells of pbc64 are JPEG files, and a JPEG leaves a pattern of 8×8 pixels that no eye sees and a network does. A
two-sample test of drawings against such files finds this pattern first. So the test is made once more with drawings
that were compressed by the same tables.
"""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
from PIL import Image
from PIL.JpegImagePlugin import JpegImageFile, get_sampling

from vouch.datasets.imagesets import open_image_set


def as_stored(images: np.ndarray, beside: Path) -> np.ndarray | None:
    """uint8 [N, H, W, 3] compressed and read again, by the tables of the first image of the set at `beside`; None where
    that is no JPEG."""
    data = next(iter(open_image_set(beside).images())).data
    with Image.open(io.BytesIO(data)) as first:
        if not isinstance(first, JpegImageFile):
            return None
        options = {"qtables": first.quantization, "subsampling": get_sampling(first)}
    return np.stack([_compressed(image, options) for image in images])


def _compressed(image: np.ndarray, options: dict[str, object]) -> np.ndarray:
    file = io.BytesIO()
    Image.fromarray(image).save(file, "JPEG", **options)
    with Image.open(file) as read:
        return np.asarray(read.convert("RGB"))
