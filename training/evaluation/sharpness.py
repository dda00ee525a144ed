"""Sharpness: how much power images have in each band of frequencies, against real ones.

Granules and chromatin are high frequencies. A judge that tolerates blur misses their loss; a spectrum does not.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from scipy.stats import wasserstein_distance

from training.evaluation.intervals import Estimate, percentiles, resamples
from training.evaluation.pixels import LUMA

BANDS = 6
"""Rings of equal width between frequency 0 and Nyquist's. The upper third is the last two."""
HIGH = 2 / 3
ROUNDS = 200
HIGH_BAND = "high-band power"
HIGH_BAND_DISTANCE = f"{HIGH_BAND}, distance from real"
FLOOR = 1e-9  # of power, so that a flat image has a logarithm


@dataclass(frozen=True)
class Spectra:
    """Of N images: power in each band [N, BANDS] and in the highest third of frequencies [N], in squared units of luma
    from 0 to 1."""

    bands: np.ndarray
    high: np.ndarray

    @classmethod
    def of(cls, images: np.ndarray) -> Spectra:
        """Of uint8 images [N, H, W, 3]. The luma is windowed (Hann), for the opposite edges of an image do not meet."""
        luma = images.astype(np.float32) @ LUMA / 255
        height, width = luma.shape[1:]
        window = np.hanning(height)[:, None] * np.hanning(width)
        centred = luma - (luma * window).sum((1, 2), keepdims=True) / window.sum()
        power = np.abs(np.fft.fft2(centred * window)) ** 2 / (window**2).sum() / (height * width)
        radius = np.hypot(np.fft.fftfreq(height)[:, None], np.fft.fftfreq(width)) / 0.5
        edges = np.linspace(0, 1, BANDS + 1)
        rings = [power[:, (low < radius) & (radius <= high)].sum(1) for low, high in pairwise(edges)]
        return cls(np.stack(rings, 1), power[:, (radius > HIGH) & (radius <= 1)].sum(1))


def sharpness(
    real: Spectra, generated: Spectra, groups: Sequence[Hashable] | None = None
) -> dict[str, Estimate]:
    """Mean power ÷ real images' mean power, by band and in the highest third; and Wasserstein's distance of the images'
    log-powers there, in real standard deviations. Both sides are resampled, real
    images by whole patients where `groups` says whose each is."""
    pairs = {
        f"power in band {n + 1} of {BANDS}": (real.bands[:, n], generated.bands[:, n]) for n in range(BANDS)
    }
    pairs[HIGH_BAND] = real.high, generated.high
    figures = {name: _estimated(*pair, _ratio, groups) for name, pair in pairs.items()}
    return figures | {
        HIGH_BAND_DISTANCE: _estimated(_log(real.high), _log(generated.high), _distance, groups)
    }


def change_of_sharpness(
    real: Spectra, ours: Spectra, theirs: Spectra, groups: Sequence[Hashable] | None = None
) -> dict[str, Estimate]:
    """How much further from real images the high-band power of `ours` is than that of `theirs`, by pairs of one prompt
    and seed."""
    pairs, reals = np.stack([_log(ours.high), _log(theirs.high)], 1), _log(real.high)

    def further(known: np.ndarray, rows: np.ndarray) -> float:
        return _distance(known, rows[:, 0]) - _distance(known, rows[:, 1])

    return {HIGH_BAND_DISTANCE: _estimated(reals, pairs, further, groups)}


def _ratio(real: np.ndarray, generated: np.ndarray) -> float:
    return float(generated.mean() / real.mean())


def _distance(real: np.ndarray, generated: np.ndarray) -> float:
    return float(wasserstein_distance(real, generated) / max(real.std(), 1e-9))


def _log(power: np.ndarray) -> np.ndarray:
    return np.asarray(np.log(power + FLOOR))


def _estimated(
    real: np.ndarray,
    generated: np.ndarray,
    figure: Callable[[np.ndarray, np.ndarray], float],
    groups: Sequence[Hashable] | None,
) -> Estimate:
    """Resampled images are a little further off for being fewer, so the interval is that of the deviations."""
    random, value = np.random.default_rng(0), figure(real, generated)
    estimates = []
    for rows in resamples(len(real), groups, ROUNDS, random):
        drawn = random.integers(0, len(generated), len(generated))
        estimates.append(figure(real[rows], generated[drawn]))
    low, high = percentiles(np.array(estimates) - np.mean(estimates))
    return Estimate(value, value + low, value + high)
