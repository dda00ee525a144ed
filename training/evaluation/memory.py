"""Features of images, computed once for each image and network."""

from __future__ import annotations

import hashlib
import io
from collections.abc import Iterable
from pathlib import Path

import numpy as np

from training.evaluation.features import Extractor
from vouch.storage.atomic import write_whole

CHUNK = 256
"""Images that are computed and written at once: what an interrupted run loses at most."""


class Memory:
    """An extractor that keeps the features of every image in `folder`, by the image's own digest.

    Rows are kept in half precision, also before they are written, so that a later run sees the same numbers.
    """

    def __init__(self, extractor: Extractor, folder: Path) -> None:
        self._extractor, self.digest, self.folder = (
            extractor,
            extractor.digest,
            folder / extractor.digest[:16],
        )
        self.folder.mkdir(parents=True, exist_ok=True)
        self._rows: dict[str, np.ndarray] = {}
        for path in sorted(self.folder.glob("*.npz")):
            with np.load(path, allow_pickle=False) as stored:
                self._rows |= dict(zip(stored["digests"].tolist(), stored["rows"], strict=True))

    def features(self, images: np.ndarray) -> np.ndarray:
        """Float32 [N, D] of uint8 images [N, H, W, 3]."""
        digests = [digest_of_image(image) for image in images]
        missing = list(
            {digest: row for row, digest in enumerate(digests) if digest not in self._rows}.items()
        )
        for start in range(0, len(missing), CHUNK):
            self._compute(images, missing[start : start + CHUNK])
        return np.stack([self._rows[digest] for digest in digests]).astype(np.float32)

    @property
    def extractor(self) -> Extractor:
        """The same extractor, remembering."""
        return Extractor(self._extractor.name, self.digest, self.features)

    def _compute(self, images: np.ndarray, missing: Iterable[tuple[str, int]]) -> None:
        digests, places = zip(*missing, strict=True)
        rows = self._extractor.features(images[list(places)]).astype(np.float16)
        self._rows |= dict(zip(digests, rows, strict=True))
        name = hashlib.sha256("".join(digests).encode()).hexdigest()[:16]
        write_whole(self.folder / f"{name}.npz", _packed(np.array(digests), rows))


def digest_of_image(image: np.ndarray) -> str:
    """Of the pixels and the size of one image, uint8 [H, W, 3]."""
    digest = hashlib.blake2b(repr(image.shape).encode(), digest_size=16)
    digest.update(np.ascontiguousarray(image).tobytes())
    return digest.hexdigest()


def _packed(digests: np.ndarray, rows: np.ndarray) -> bytes:
    buffer = io.BytesIO()
    np.savez(buffer, digests=digests, rows=rows)
    return buffer.getvalue()
