"""Images that are the same picture: byte by byte, or nearly (compressed again, scaled, brightened).

Nearly the same: the grey thumbnails, without their mean and contrast, lie closer than NEAR, and closer than RELATIVE of
the distance to the AROUND nearest images, so that a set of like images is no set of duplicates. On 3,058 chest
radiographs (cxr224) the closest two different images are 0.23 apart; a JPEG of quality 60 lies 0.02 from its original,
one of three quarters the size 0.04, one shifted by 1 % up to 0.17: that one is not found.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
import numpy.typing as npt
from PIL import Image

SIDE = 32
NEAR = 0.1
RELATIVE = 0.35
AROUND = 50
COARSE = 0.15
"""Distance of thumbnails of half the side below which the whole ones are compared."""
BLOCK = 512

Thumbnail = npt.NDArray[np.float16]


def thumbnail(pixels: npt.NDArray[np.uint8]) -> Thumbnail:
    """A unit vector [SIDE²] of uint8 [H, W, 3]; zero for an image of one colour."""
    small = Image.fromarray(pixels).convert("L").resize((SIDE, SIDE), Image.Resampling.BOX)
    return _unit(np.asarray(small, np.float32).ravel()).astype(np.float16)


def near_pairs(thumbnails: Sequence[Thumbnail]) -> Iterator[tuple[int, int]]:
    """Pairs of images that are nearly the same, some of them both ways round. The cost grows with the square of
    their number."""
    if len(thumbnails) < 2:
        return
    whole = np.stack(thumbnails)
    coarse = np.stack([_unit(_halved(one.astype(np.float32))) for one in thumbnails])
    for start in range(0, len(whole), BLOCK):
        alike = coarse[start : start + BLOCK] @ coarse.T
        alike[np.arange(len(alike)), start + np.arange(len(alike))] = -1
        for row in np.flatnonzero(alike.max(1) > _cosine(COARSE)):
            yield from _confirmed(start + int(row), whole, alike[row])


def _confirmed(
    row: int, whole: npt.NDArray[np.float16], alike: npt.NDArray[np.float32]
) -> Iterator[tuple[int, int]]:
    around = min(AROUND, len(alike) - 1)
    nearest = np.argpartition(-alike, around - 1)[:around]
    apart = np.linalg.norm(whole[nearest].astype(np.float32) - whole[row].astype(np.float32), axis=1)
    limit = min(NEAR, RELATIVE * float(apart.mean())) if around >= AROUND else NEAR
    for other, distance in zip(nearest, apart, strict=True):
        if distance < limit:
            yield row, int(other)


def groups_of(pairs: Iterator[tuple[int, int]]) -> list[tuple[int, ...]]:
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


def _unit(values: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    centred = values - values.mean()
    return centred / max(float(np.linalg.norm(centred)), 1e-6)


def _halved(values: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    return values.reshape(SIDE // 2, 2, SIDE // 2, 2).mean((1, 3)).ravel()


def _cosine(distance: float) -> float:
    """Of unit vectors so far apart."""
    return 1 - distance**2 / 2
