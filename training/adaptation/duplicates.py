"""Images that are the same picture: byte by byte, or nearly (compressed again, scaled, brightened).

Nearly the same: the grey thumbnails, without their mean and contrast, lie closer than NEAR, and closer than RELATIVE of
the distance to the AROUND nearest images, so that a set of like images is no set of duplicates. The two limits lie
between copies and the closest different chest radiographs and blood cells; neighbouring slices of one volume count as
copies. What is found and what not is measured by ``python -m benchmarks.adaptation.duplicates``.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

import numpy as np
import numpy.typing as npt
from PIL import Image

SIDE = 16
NEAR = 0.12
RELATIVE = 0.3
AROUND = 50
BLOCK = 512

Thumbnail = npt.NDArray[np.float32]


def thumbnail(pixels: npt.NDArray[np.uint8]) -> Thumbnail:
    """A unit vector [SIDE²] of uint8 [H, W, 3]; zero for an image of one colour."""
    small = Image.fromarray(pixels).convert("L").resize((SIDE, SIDE), Image.Resampling.LANCZOS)
    values = np.asarray(small, np.float32).ravel()
    centred = values - values.mean()
    return np.asarray(centred / max(float(np.linalg.norm(centred)), 1e-6), np.float32)


def near_pairs(thumbnails: Sequence[Thumbnail]) -> Iterator[tuple[int, int]]:
    """Pairs of images that are nearly the same, some of them both ways round. The cost grows with the square of their
    number."""
    if len(thumbnails) < 2:
        return
    whole = np.stack(thumbnails)
    for start in range(0, len(whole), BLOCK):
        alike = whole[start : start + BLOCK] @ whole.T
        alike[np.arange(len(alike)), start + np.arange(len(alike))] = -1  # not itself
        for row in np.flatnonzero(alike.max(1) > 1 - NEAR**2 / 2):
            yield from _pairs_of(start + int(row), alike[row])


def _pairs_of(row: int, alike: npt.NDArray[np.float32]) -> Iterator[tuple[int, int]]:
    """alike: cosines [N] to all images, -1 to itself."""
    around = min(AROUND, len(alike) - 1)
    nearest = np.argpartition(-alike, around - 1)[:around]
    apart = np.sqrt(np.clip(2 - 2 * alike[nearest], 0, None))  # of unit vectors
    limit = min(NEAR, RELATIVE * float(apart.mean())) if around == AROUND else NEAR
    for other, distance in zip(nearest, apart, strict=True):
        if distance < limit:
            yield row, int(other)


def groups_of(pairs: Iterable[tuple[int, int]]) -> list[tuple[int, ...]]:
    """Pairs joined to groups of rows, each sorted, by their first row."""
    root: dict[int, int] = {}

    def find(row: int) -> int:
        while (above := root.setdefault(row, row)) != row:
            root[row] = row = root.setdefault(above, above)
        return row

    for one, other in pairs:
        low, high = sorted((find(one), find(other)))
        root[high] = low
    members: dict[int, list[int]] = {}
    for row in sorted(root):
        members.setdefault(find(row), []).append(row)
    return [tuple(rows) for _, rows in sorted(members.items())]
