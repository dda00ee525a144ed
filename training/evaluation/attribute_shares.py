"""Do generated cells of a class have the attributes that real ones have, as often?

A generator can draw plausible cells and only some kinds of them. The same network reads both sides, so that its own
errors are on both.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from training.evaluation.intervals import Estimate, percentiles

ROUNDS = 200
LEAST = 10
"""Images of a class on either side, below which shares say nothing."""

Read = Mapping[str, np.ndarray]
"""For each attribute the value [N] that a network sees in each of N images, as an index."""


def total_variation(ours: np.ndarray, theirs: np.ndarray) -> float:
    """Half the summed difference of the shares of every value: 0 for the same shares, 1 where no value is shared."""
    values = 1 + max(int(ours.max()), int(theirs.max()))
    first, second = (np.bincount(side, minlength=values) / len(side) for side in (ours, theirs))
    return float(np.abs(first - second).sum() / 2)


def attribute_distances(
    real: Read,
    real_labels: Sequence[str],
    generated: Read,
    labels: Sequence[str],
    known: Mapping[str, Sequence[str]],
) -> dict[str, Estimate]:
    """The total variation of each class, mean over its attributes; and the mean over classes, and the worst one.

    known: the attributes that real images of each class are annotated with; others are not compared. Few images differ
    in their shares by chance: put the same figure of as many real images beside it.
    """
    names, real_names = np.array(labels), np.array(real_labels)
    rows = {label: (np.flatnonzero(real_names == label), np.flatnonzero(names == label)) for label in known}
    rows = {label: sides for label, sides in rows.items() if min(map(len, sides)) >= LEAST and known[label]}
    if not rows:
        return {}

    def measured(chosen: Mapping[str, tuple[np.ndarray, np.ndarray]]) -> np.ndarray:
        return np.array([
            np.mean([total_variation(generated[name][ours], real[name][theirs]) for name in known[label]])
            for label, (theirs, ours) in chosen.items()
        ])  # fmt: skip

    value, random = measured(rows), np.random.default_rng(0)
    resampled = np.stack(
        [measured({label: _resampled(sides, random) for label, sides in rows.items()}) for _ in range(ROUNDS)]
    )
    bounds = resampled - resampled.mean(0)  # resampled images differ more, for being fewer
    figures = {
        f"attribute distance, {label}": _around(value[place], bounds[:, place])
        for place, label in enumerate(rows)
    }
    figures["attribute distance"] = _around(value.mean(), bounds.mean(1))
    worst = int(value.argmax())
    return figures | {"attribute distance, worst class": _around(value[worst], bounds[:, worst])}


def _resampled(
    sides: tuple[np.ndarray, np.ndarray], random: np.random.Generator
) -> tuple[np.ndarray, np.ndarray]:
    first, second = (rows[random.integers(0, len(rows), len(rows))] for rows in sides)
    return first, second


def _around(value: float, deviations: np.ndarray) -> Estimate:
    low, high = percentiles(deviations)
    return Estimate(float(value), max(0.0, float(value) + low), float(value) + high)
