"""Drawings are compared with real images as these are stored."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from benchmarks.starter.compression import as_stored


@pytest.fixture
def images() -> np.ndarray:
    return np.random.default_rng(0).integers(0, 255, (3, 16, 16, 3), np.uint8)


def saved(image: np.ndarray, folder: Path, name: str, **options: object) -> Path:
    (folder / "cell").mkdir()
    Image.fromarray(image).save(folder / "cell" / name, **options)
    return folder


@pytest.mark.parametrize("quality", [40, 95])
def test_drawings_are_compressed_by_the_tables_of_the_set(
    images: np.ndarray, tmp_path: Path, quality: int
) -> None:
    beside = saved(images[0], tmp_path, "a.jpg", quality=quality, subsampling=0)
    with Image.open(beside / "cell" / "a.jpg") as file:
        theirs = np.asarray(file)
    stored = as_stored(images, beside)
    assert stored is not None and np.array_equal(stored[0], theirs)
    assert not np.array_equal(stored, images)


def test_a_set_without_compression_asks_for_none(images: np.ndarray, tmp_path: Path) -> None:
    assert as_stored(images, saved(images[0], tmp_path, "a.png")) is None
