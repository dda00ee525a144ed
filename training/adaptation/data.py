"""Captioned images as tensors: in memory, or streamed."""

from __future__ import annotations

import hashlib
import logging
import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from PIL import Image, ImageOps

from training.adaptation.images import CaptionedImage, ReadOptions, read_images
from training.adaptation.splits import Split
from vouch.errors import InvalidInput
from vouch.formats import images as codec

log = logging.getLogger("vouch.training")

Fit = Literal["crop", "pad", "squash"]
"""How an image that is no square becomes one: its middle; all of it with black beside; or all of it, distorted."""


@dataclass(frozen=True)
class CaptionedSet:
    """Captioned images in memory, in the order of the set.

    images: uint8 [N, 3, S, S]. The other fields have one entry for each image. `digests` are SHA-256 of the encoded
    images: a cache of latents is keyed by them, never by a row's number.
    """

    images: torch.Tensor
    captions: tuple[tuple[str, ...], ...]
    labels: tuple[str, ...]
    patients: tuple[str, ...]
    splits: tuple[Split, ...]
    keys: tuple[str, ...]
    digests: tuple[str, ...]

    def __len__(self) -> int:
        return len(self.keys)

    @property
    def digest(self) -> str:
        """SHA-256 of what is learned: images, captions, splits. Patients are no part of it."""
        rows = zip(self.digests, self.captions, self.splits, strict=True)
        return hashlib.sha256("\n".join(map(repr, rows)).encode()).hexdigest()

    @property
    def arrays(self) -> np.ndarray:
        """The images as uint8 [N, S, S, 3]."""
        return self.images.permute(0, 2, 3, 1).numpy()

    @property
    def groups(self) -> tuple[str, ...]:
        """What has to stay together: the patient, or images that are the same byte by byte."""
        return tuple(patient or digest for patient, digest in zip(self.patients, self.digests, strict=True))

    def subset(self, rows: Sequence[int]) -> CaptionedSet:
        """The images of these rows, in that order."""
        return CaptionedSet(
            self.images[torch.as_tensor(list(rows), dtype=torch.long)],
            tuple(self.captions[row] for row in rows),
            tuple(self.labels[row] for row in rows),
            tuple(self.patients[row] for row in rows),
            tuple(self.splits[row] for row in rows),
            tuple(self.keys[row] for row in rows),
            tuple(self.digests[row] for row in rows),
        )

    def of(self, split: Split) -> CaptionedSet:
        """The images of one split."""
        return self.subset([row for row, other in enumerate(self.splits) if other == split])

    def caption(self, row: int, rng: random.Random) -> str:
        """One of the captions of the image in this row, each as likely."""
        return rng.choice(self.captions[row])

    def few(self, count: int, seed: int = 0) -> CaptionedSet:
        """`count` training images drawn at random, labels in turn; sets of growing count contain each other."""
        by_label: dict[str, list[int]] = {}
        for row, split in enumerate(self.splits):
            if split == "train":
                by_label.setdefault(self.labels[row], []).append(row)
        order = [random.Random(f"{seed} {label}").sample(by_label[label], len(by_label[label]))
                 for label in sorted(by_label)]  # fmt: skip
        turns = [
            rows[turn]
            for turn in range(max(map(len, order), default=0))
            for rows in order
            if turn < len(rows)
        ]
        return self.subset(turns[:count])


def stream(
    path: Path | str, size: int, reading: ReadOptions, fit: Fit = "crop"
) -> Iterator[tuple[CaptionedImage, torch.Tensor]]:
    """Each image that can be read and has a caption, with its pixels uint8 [3, size, size]. A warning at the end says
    how many were left out, and why.

    Raises:
        InvalidInput: nothing there, or a damaged archive or table.
    """
    left_out: dict[str, list[str]] = {}
    for image in read_images(path, reading):
        try:
            if problem := image.problem or ("" if image.captions else "The image has no caption."):
                raise InvalidInput(problem)
            pixels = torch.from_numpy(square(codec.decode(image.data, reading.window), size, fit)).permute(
                2, 0, 1
            )
        except InvalidInput as error:
            left_out.setdefault(error.message, []).append(image.key)
            continue
        yield image, pixels.contiguous()
    for why, keys in left_out.items():
        log.warning("%s: %d images are left out (%s, …): %s", path, len(keys), keys[0], why)


def load_set(path: Path | str, size: int, reading: ReadOptions, fit: Fit = "crop") -> CaptionedSet:
    """The set in memory: 3·size² bytes an image.

    Raises:
        InvalidInput: no image that can be read and has a caption.
    """
    rows = list(stream(path, size, reading, fit))
    if not rows:
        raise InvalidInput(
            f"{path} holds no image with a caption. `vouch adapt --check-only --data {path}` says what is there."
        )
    images, pixels = [image for image, _ in rows], torch.stack([part for _, part in rows])
    return CaptionedSet(
        pixels,
        tuple(image.captions for image in images),
        tuple(image.label for image in images),
        tuple(image.patient for image in images),
        tuple(image.split for image in images),
        tuple(image.key for image in images),
        tuple(image.digest for image in images),
    )


def square(pixels: np.ndarray, size: int, fit: Fit = "crop") -> np.ndarray:
    """uint8 [H, W, 3] as [size, size, 3]."""
    if pixels.shape[:2] == (size, size):
        return pixels.copy()
    image, wanted, how = Image.fromarray(pixels), (size, size), Image.Resampling.LANCZOS
    made = {
        "crop": lambda: ImageOps.fit(image, wanted, how),
        "pad": lambda: ImageOps.pad(image, wanted, how),
        "squash": lambda: image.resize(wanted, how),
    }[fit]()
    return np.array(made)
