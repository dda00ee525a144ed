"""Sharpness: what blur takes away, and what it leaves."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from scipy.ndimage import gaussian_filter

from tests.real import PBC64, needs_pbc64
from training.data.examples import load_examples
from training.evaluation.codec import load_autoencoder, through
from training.evaluation.sharpness import (
    BANDS,
    HIGH_BAND,
    HIGH_BAND_DISTANCE,
    Spectra,
    change_of_sharpness,
    sharpness,
)

FIRST_AUTOENCODER = Path(__file__).parents[2] / "benchmarks" / "starter" / "first_autoencoder"


def noise(count: int, seed: int) -> np.ndarray:
    """White noise has the same power at every frequency."""
    return np.random.default_rng(seed).normal(128, 20, (count, 32, 32, 3)).clip(0, 255).astype(np.uint8)


def blurred(images: np.ndarray) -> np.ndarray:
    return gaussian_filter(images.astype(np.float32), (0, 0.7, 0.7, 0)).round().astype(np.uint8)


def test_a_wave_has_its_power_in_its_own_band() -> None:
    x = np.arange(48)
    wave = np.broadcast_to(128 + 60 * np.sin(2 * np.pi * x * 0.45), (4, 48, 48))  # 0.9 of Nyquist's frequency
    bands = Spectra.of(np.repeat(wave[..., None], 3, -1).astype(np.uint8)).bands.mean(0)
    assert bands.argmax() == BANDS - 1 and bands[-1] > 100 * bands[:-2].max()


def test_images_of_one_distribution_have_the_same_power_in_every_band() -> None:
    found = sharpness(Spectra.of(noise(300, 0)), Spectra.of(noise(300, 1)))
    for number in range(1, BANDS + 1):
        assert found[f"power in band {number} of {BANDS}"].value == pytest.approx(1.0, abs=0.1)
    assert found[HIGH_BAND].low < 1 < found[HIGH_BAND].high
    assert found[HIGH_BAND_DISTANCE].value < 0.2


def test_blur_takes_the_high_band_and_leaves_the_low_one() -> None:
    found = sharpness(Spectra.of(noise(300, 0)), Spectra.of(blurred(noise(300, 1))))
    assert found[HIGH_BAND].high < 0.3 < 0.8 < found[f"power in band 1 of {BANDS}"].low
    assert found[HIGH_BAND_DISTANCE].low > 1


def test_a_version_that_smooths_moves_away_from_real_images() -> None:
    real, sharp, soft = (
        Spectra.of(images) for images in (noise(300, 0), noise(200, 1), blurred(noise(200, 1)))
    )
    change = change_of_sharpness(real, soft, sharp)[HIGH_BAND_DISTANCE]
    assert change.low > 0.25
    assert change_of_sharpness(real, sharp, sharp)[HIGH_BAND_DISTANCE].value == 0.0


@needs_pbc64
def test_real_cells_through_an_autoencoder_of_four_channels_have_lost_their_granules() -> None:
    cells = load_examples(PBC64 / "val.parquet").images[:64].permute(0, 2, 3, 1).numpy()
    soft = through(load_autoencoder(FIRST_AUTOENCODER), cells[:32])
    found = sharpness(Spectra.of(cells[32:]), Spectra.of(soft))
    assert found[HIGH_BAND].high < 0.6
