"""Figures of drawn images, as pure functions of arrays."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np


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
