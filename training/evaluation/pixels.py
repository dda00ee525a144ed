"""What anybody sees of an image without knowing what it shows: a reward that is fooled shows here first.

A generator that learned to please a reward by brightness alone moves away from real images in brightness, whatever the
reward and the features of a judge make of it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from scipy.stats import wasserstein_distance

from training.evaluation.intervals import Estimate, percentiles

LUMA = np.array([0.299, 0.587, 0.114], np.float32)  # ITU-R BT.601
DARK = 0.5
STATISTICS = ("brightness", "contrast", "saturation", "dark share")
ROUNDS = 200


@dataclass(frozen=True)
class Pixels:
    """Real images' statistics by class: mean and standard deviation, and every image in units of them."""

    centre: Mapping[str, Mapping[str, tuple[float, float]]]
    values: Mapping[str, np.ndarray]

    @classmethod
    def of(cls, images: np.ndarray, labels: Sequence[str]) -> Pixels:
        """Of real images uint8 [N, H, W, 3]."""
        values, names = statistics(images), np.array(labels)
        centre = {
            name: {label: _moments(rows[names == label]) for label in sorted(set(labels))}
            for name, rows in values.items()
        }
        return cls(centre, {name: _standard(rows, labels, centre[name]) for name, rows in values.items()})

    def standard(self, images: np.ndarray, labels: Sequence[str]) -> dict[str, np.ndarray]:
        """Each statistic of images [N, H, W, 3], in standard deviations from the real mean of its class: [N]."""
        values = statistics(images)
        return {name: _standard(rows, labels, self.centre[name]) for name, rows in values.items()}

    def distance(self, name: str, values: np.ndarray) -> float:
        """How far standardised `values` are distributed from the real ones: Wasserstein's distance, in real standard
        deviations. It is at least the shift of the mean, and sees a change of spread too."""
        return float(wasserstein_distance(values, self.values[name]))


def statistics(images: np.ndarray) -> dict[str, np.ndarray]:
    """Of uint8 images [N, H, W, 3], each [N] and 0 to 1: mean luma, its deviation, mean saturation (HSV), and the
    share of pixels darker than half."""
    pixels = images.astype(np.float32) / 255
    luma, most = pixels @ LUMA, pixels.max(-1)
    colour = np.where(most > 0, (most - pixels.min(-1)) / np.maximum(most, 1e-6), 0)
    rows = (luma.mean((1, 2)), luma.std((1, 2)), colour.mean((1, 2)), (luma < DARK).mean((1, 2)))
    return {name: np.asarray(row, np.float64) for name, row in zip(STATISTICS, rows, strict=True)}


def distances(real: Pixels, values: Mapping[str, np.ndarray]) -> dict[str, Estimate]:
    """The distance of each statistic, with the interval of resampled images."""
    return {name: _estimated(real, name, rows[None], lambda means: means[0]) for name, rows in values.items()}


def changes(
    real: Pixels, ours: Mapping[str, np.ndarray], theirs: Mapping[str, np.ndarray]
) -> dict[str, Estimate]:
    """How much further from real images `ours` are than `theirs`, pair by pair of the same prompts and seeds."""
    return {
        name: _estimated(real, name, np.stack([ours[name], theirs[name]]), lambda means: means[0] - means[1])
        for name in ours
    }


def _estimated(real: Pixels, name: str, rows: np.ndarray, figure: Callable[[list[float]], float]) -> Estimate:
    """Rows [sides, N] are resampled together. Resampled images are a little further off for being fewer, so the
    interval is that of the deviations from their mean."""
    random = np.random.default_rng(0)
    value = figure([real.distance(name, row) for row in rows])
    resampled = []
    for _ in range(ROUNDS):
        chosen = random.integers(0, rows.shape[1], rows.shape[1])
        resampled.append(figure([real.distance(name, row[chosen]) for row in rows]))
    low, high = percentiles(np.array(resampled) - np.mean(resampled))
    return Estimate(value, value + low, value + high)


def _standard(
    rows: np.ndarray, labels: Sequence[str], centre: Mapping[str, tuple[float, float]]
) -> np.ndarray:
    means, deviations = np.array([centre[label] for label in labels]).T
    return (rows - means) / deviations


def _moments(rows: np.ndarray) -> tuple[float, float]:
    return float(rows.mean()), max(float(rows.std()), 1 / 255)
