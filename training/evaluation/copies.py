"""The copy alarm: is a generated image a training image again, perhaps turned or a little softened?

A copy that passed an autoencoder has lost what networks look at, and a turned one lies far away in most networks'
features. So images are compared as thumbnails of SIDE x SIDE pixels without their mean colour, in all orientations that
mean the same.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch.nn import functional as F

from training.evaluation.intervals import Estimate, rate, share

SIDE = 16
AROUND = 50
FALSE_ALARMS = 0.01
"""How often an unseen real image may be called a copy: what the limit is calibrated on."""
BLOCK = 64
"""Images that are compared at once: BLOCK x 8 x T distances are held, 21 MB for ten thousand training images."""
PLANTED = 256

KINDS = ("exact", "turned", "through the autoencoder", "turned and through the autoencoder")
"""Of planted copies."""

Codec = Callable[[np.ndarray], np.ndarray]
"""uint8 images [N, H, W, 3] through an autoencoder and back."""


@dataclass(frozen=True)
class Nearest:
    """Of N images the nearest training image in any orientation: which one [N], and how much nearer than others.

    `relative` [N] is the distance ÷ the mean one to the AROUND nearest: small where one training image stands out, and
    not where all lie close together (after Carlini et al. 2023, arXiv 2301.13188).
    """

    index: np.ndarray
    relative: np.ndarray


@dataclass(frozen=True)
class CopyAlarm:
    """Thumbnails of training images [T, 3 * SIDE * SIDE], what unseen real images have for `relative` [U], and the
    limit below which an image sets the alarm off."""

    thumbnails: torch.Tensor
    symmetric: bool
    unseen: np.ndarray
    limit: float

    @classmethod
    def calibrated(cls, train: np.ndarray, unseen: np.ndarray, symmetric: bool) -> CopyAlarm:
        """Of images uint8 [T, H, W, 3] and unseen real ones [U, H, W, 3]. symmetric: whether flips and quarter turns
        show the same thing (a cell), or not (a chest)."""
        alarm = cls(_thumbnails(train).flatten(1), symmetric, np.zeros(0), 0.0)
        relative = alarm.nearest(unseen).relative
        return cls(alarm.thumbnails, symmetric, relative, float(np.quantile(relative, FALSE_ALARMS)))

    def nearest(self, images: np.ndarray) -> Nearest:
        """The nearest training image of each image [N, H, W, 3]."""
        parts = [self._block(images[start : start + BLOCK]) for start in range(0, len(images), BLOCK)]
        index, relative = zip(*parts, strict=True)
        return Nearest(np.concatenate(index), np.concatenate(relative))

    def alarmed(self, images: np.ndarray) -> np.ndarray:
        """Whether each image is nearer to a training image than all but FALSE_ALARMS of unseen real ones: bool [N]."""
        return self.nearest(images).relative < self.limit

    def false_alarms(self, groups: Sequence[Hashable] | None = None) -> Estimate:
        """How often the alarm goes off for real images that did not set its limit: each half is held against the
        other's. groups: whose each unseen image is; a patient's images are in one half."""
        names: Sequence[Hashable] = range(len(self.unseen))
        if groups is not None and len(set(groups)) > 1:
            names = groups
        unique = list(dict.fromkeys(names))
        first = {unique[place] for place in np.random.default_rng(0).permutation(len(unique))[::2]}
        half = np.array([name in first for name in names])
        limits = [float(np.quantile(self.unseen[side], FALSE_ALARMS)) for side in (half, ~half)]
        return share(self.unseen < np.where(half, limits[1], limits[0]), groups)

    def power(self, train: np.ndarray, through: Codec | None, count: int = PLANTED) -> dict[str, Estimate]:
        """The share of planted copies that it finds, by kind: of `count` training images drawn at random."""
        rows = np.random.default_rng(0).permutation(len(train))[:count]
        kinds = planted(train[rows], self.symmetric, through)
        shares = {kind: self.alarmed(images) for kind, images in kinds.items()}
        return {kind: rate(int(alarms.sum()), len(alarms)) for kind, alarms in shares.items()}

    def _block(self, images: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        queries = torch.stack(
            [turned.flatten(1) for turned in _orientations(_thumbnails(images), self.symmetric)]
        )
        around = min(AROUND, len(self.thumbnails))
        squares = queries.square().sum(-1, keepdim=True) + self.thumbnails.square().sum(1)
        apart = (squares - 2 * queries @ self.thumbnails.T).amin(0).clamp(min=0)
        nearest = apart.topk(around, largest=False)
        distance = nearest.values.sqrt()
        relative = distance[:, 0] / distance.mean(1).clamp(min=1e-9)
        return nearest.indices[:, 0].numpy(), relative.numpy()


def planted(originals: np.ndarray, symmetric: bool, through: Codec | None) -> Mapping[str, np.ndarray]:
    """Copies of images uint8 [N, H, W, 3]: exact; turned, each in another orientation, where that means the same; and
    the same through an autoencoder, where there is one."""
    plain = [originals]
    if symmetric:
        plain.append(np.stack([_turned(image, 1 + row % 7) for row, image in enumerate(originals)]))
    softened = [] if through is None else [through(images) for images in plain]
    return dict(zip(KINDS[:2], plain, strict=False)) | dict(zip(KINDS[2:], softened, strict=False))


def _thumbnails(images: np.ndarray) -> torch.Tensor:
    """Float [N, 3, SIDE, SIDE] of uint8 images [N, H, W, 3], without their mean colour."""
    pixels = torch.from_numpy(np.ascontiguousarray(images)).permute(0, 3, 1, 2)
    parts = [
        F.adaptive_avg_pool2d(pixels[i : i + 512].float() / 255, SIDE) for i in range(0, len(pixels), 512)
    ]
    small = torch.cat(parts)
    return small - small.mean((2, 3), keepdim=True)


def _orientations(images: torch.Tensor, symmetric: bool) -> list[torch.Tensor]:
    if not symmetric:
        return [images]
    turns = [torch.rot90(images, turn, (2, 3)) for turn in range(4)]
    return [*turns, *(turned.flip(3) for turned in turns)]


def _turned(image: np.ndarray, orientation: int) -> np.ndarray:
    turned = np.rot90(image, orientation % 4)
    return turned[:, ::-1] if orientation >= 4 else turned
