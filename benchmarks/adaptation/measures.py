"""Figures of drawn images, as pure functions of arrays."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from training.evaluation.authenticity import authentic
from training.evaluation.coverage import coverage
from training.evaluation.intervals import wilson


def chroma(images: np.ndarray) -> float:
    """Mean over the pixels of images uint8 [N, H, W, 3] of the largest channel minus the smallest, of 255."""
    whole = images.astype(np.int16)
    return float((whole.max(-1) - whole.min(-1)).mean())


def ks_distance(one: np.ndarray, other: np.ndarray) -> float:
    """The Kolmogorov-Smirnov distance of two samples [N] and [M]: the largest gap of their distribution functions."""
    points = np.sort(np.concatenate([one, other]))
    shares = [np.searchsorted(np.sort(sample), points, side="right") / len(sample) for sample in (one, other)]
    return float(np.abs(shares[0] - shares[1]).max())


def logit_distance(
    real: np.ndarray,
    generated: np.ndarray,
    real_labels: Sequence[str],
    asked: Sequence[str],
    labels: Sequence[str],
) -> float:
    """How far a judge's logits [N, L] and [M, L] of generated images are from those of real ones: the KS distance of a
    label's own logit among the images of that label, averaged over the labels that were asked for."""
    told, wanted = np.array(real_labels), np.array(asked)
    asked_for = [(place, label) for place, label in enumerate(labels) if (wanted == label).any()]
    return float(
        np.mean(
            [
                ks_distance(real[told == label, place], generated[wanted == label, place])
                for place, label in asked_for
            ]
        )
    )


def distance_closed(base: float, recipe: float, floor: float) -> float | None:
    """(base − recipe) ÷ (base − real against real); None where the base is as near as real images are."""
    return (base - recipe) / (base - floor) if base > floor else None


def coverage_of_floor(real: np.ndarray, generated: np.ndarray, other: np.ndarray) -> float:
    """Coverage of features [N, D] by [M, D] ÷ that by as many other real images [K, D]."""
    count = min(len(generated), len(other))
    floor = coverage(real, other[:count])["coverage"]
    return coverage(real, generated[:count])["coverage"] / floor if floor else 0.0


def authenticity_change(
    taught: np.ndarray, generated: np.ndarray, unseen: np.ndarray
) -> tuple[float, float, float]:
    """Points by which fewer (-) or more drawings are authentic than unseen real images are, and the change's 95 %
    interval (Newcombe 1998, method 10). Below 0 drawings lie nearer to training images than real ones of others do.

    Features [T, D], [M, D] and [N, D].
    """
    drawn, real = authentic(taught, generated), authentic(taught, unseen)
    change, (low, high) = float(drawn.mean() - real.mean()), difference_interval(drawn, real)
    return 100 * change, 100 * low, 100 * high


def difference_interval(one: np.ndarray, other: np.ndarray) -> tuple[float, float]:
    """Newcombe's 95 % interval of the difference of two independent shares, of bool [N] and [M]."""
    shares = [float(rows.mean()) for rows in (one, other)]
    bounds = [wilson(int(rows.sum()), len(rows)) for rows in (one, other)]
    change = shares[0] - shares[1]
    down = np.hypot(shares[0] - bounds[0][0], bounds[1][1] - shares[1])
    up = np.hypot(bounds[0][1] - shares[0], shares[1] - bounds[1][0])
    return float(change - down), float(change + up)
