"""Contact sheets."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image


def contact_sheet(
    images: np.ndarray, columns: int, path: Path | None = None, gap: int = 2, scale: int = 1
) -> Image.Image:
    """Lays uint8 images [N, H, W, 3] out in rows of `columns` on white, and writes the sheet where `path` is given."""
    count, height, width, _ = images.shape
    rows = -(-count // columns)
    sheet = np.full((rows * (height + gap) - gap, columns * (width + gap) - gap, 3), 255, np.uint8)
    for index, image in enumerate(images):
        top, left = (index // columns) * (height + gap), (index % columns) * (width + gap)
        sheet[top : top + height, left : left + width] = image
    picture = Image.fromarray(sheet)
    if scale > 1:
        picture = picture.resize((picture.width * scale, picture.height * scale), Image.Resampling.NEAREST)
    if path is not None:
        picture.save(path, optimize=True)
    return picture
