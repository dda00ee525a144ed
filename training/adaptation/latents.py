"""Images as latents: encoded once and kept, or anew at every step.

A latent is found by the digest of its image's pixels, the variant of the image and the digest of the autoencoder, never
by the number of a row: no shuffled set can meet the captions of another.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np
import torch
from torch.nn import functional as F

from training.adaptation.foundation import Foundation
from training.data.augmentation import turned
from training.loop.session import TrainingSession
from training.randomness import numbers
from vouch.storage.atomic import write_whole

ORIENTATIONS = 8
LEAST_CROP = 0.85
"""Share of the sides that a crop has at least."""


class LatentSource(Protocol):
    """Where a step's clean latents come from."""

    @property
    def variants(self) -> int:
        """How many views there are of each image."""
        ...

    def clean(self, rows: Sequence[int], variants: Sequence[int], random_: torch.Generator) -> torch.Tensor:
        """Latents [N, C, h, w] of these images, drawn from the autoencoder's posterior and scaled; on the CPU."""
        ...


def variant(image: torch.Tensor, number: int, symmetric: bool) -> torch.Tensor:
    """One view of an image uint8 [3, S, S]: turned where that means the same, and cropped. Number 0 is the image."""
    crop, turn = divmod(number, ORIENTATIONS) if symmetric else (number, 0)
    image = turned(image[None], turn)[0]
    if crop == 0:
        return image
    rng, side = numbers("crop", crop), image.shape[-1]
    part = round(side * rng.uniform(LEAST_CROP, 1.0))
    top, left = rng.randint(0, side - part), rng.randint(0, side - part)
    cropped = image[None, :, top : top + part, left : left + part].float()
    resized = F.interpolate(cropped, size=(side, side), mode="bilinear", antialias=True)
    return resized[0].round().clamp(0, 255).byte()


def pixel_digest(image: torch.Tensor) -> str:
    """SHA-256 of pixels uint8 [3, S, S]: it also tells size, window and how the image was made square."""
    return hashlib.sha256(image.contiguous().numpy().tobytes()).hexdigest()


@dataclass(frozen=True)
class FreshLatents:
    """Encodes at every step."""

    base: Foundation
    images: torch.Tensor
    symmetric: bool
    variants: int

    def clean(self, rows: Sequence[int], variants: Sequence[int], random_: torch.Generator) -> torch.Tensor:
        views = [
            variant(self.images[row], number, self.symmetric)
            for row, number in zip(rows, variants, strict=True)
        ]
        mean, deviation = self.base.posterior(torch.stack(views))
        return self.base.scaled(mean + deviation * torch.randn(mean.shape, generator=random_))


class CachedLatents:
    """Means and deviations float16 [K, 2, C, h, w] in a file that is mapped, not read, and where each lies in it."""

    def __init__(
        self,
        base: Foundation,
        images: torch.Tensor,
        symmetric: bool,
        variants: int,
        folder: Path,
        session: TrainingSession,
    ) -> None:
        self.base, self.variants = base, variants
        self._digests = [pixel_digest(image) for image in images]
        wanted = [f"{digest}/{number}" for digest in self._digests for number in range(variants)]
        name = hashlib.sha256(
            "\n".join([base.vae_digest(), str(symmetric), *sorted(wanted)]).encode()
        ).hexdigest()
        self._file, self._keys = folder / f"{name}.npy", folder / f"{name}.json"
        if not session.group.broadcast_scalar(self._keys.is_file()):
            self._encode(images, symmetric, session)
        self._stored = np.load(self._file, mmap_mode="r", allow_pickle=False)
        self._place: dict[str, int] = json.loads(self._keys.read_text())

    def stored(self, row: int, number: int) -> np.ndarray:
        """Mean and deviation [2, C, h, w] of one view of the image in this row."""
        found: np.ndarray = self._stored[self._place[f"{self._digests[row]}/{number}"]]
        return found

    def clean(self, rows: Sequence[int], variants: Sequence[int], random_: torch.Generator) -> torch.Tensor:
        views = np.stack([self.stored(row, number) for row, number in zip(rows, variants, strict=True)])
        mean, deviation = torch.from_numpy(views.astype(np.float32)).unbind(1)
        return self.base.scaled(mean + deviation * torch.randn(mean.shape, generator=random_))

    def _encode(self, images: torch.Tensor, symmetric: bool, session: TrainingSession) -> None:
        """Every worker encodes, so that all come to the end together; rank zero writes, the keys last."""
        first = {digest: row for row, digest in reversed(list(enumerate(self._digests)))}
        keys = [(digest, number) for digest in sorted(first) for number in range(self.variants)]
        parts = []
        for start in range(0, len(keys), 32):
            session.report(start, len(keys), "encoding")
            views = [
                variant(images[first[digest]], number, symmetric)
                for digest, number in keys[start : start + 32]
            ]
            parts.append(torch.stack(self.base.posterior(torch.stack(views)), 1).half().numpy())
        if session.group.is_rank_zero:
            self._file.parent.mkdir(parents=True, exist_ok=True)
            _write(self._file, np.concatenate(parts))
            places = {f"{digest}/{number}": place for place, (digest, number) in enumerate(keys)}
            write_whole(self._keys, json.dumps(places).encode())
        session.group.broadcast_scalar(True)


def _write(path: Path, values: np.ndarray) -> None:
    with path.with_suffix(".tmp").open("wb") as file:
        np.save(file, values)
    path.with_suffix(".tmp").replace(path)
