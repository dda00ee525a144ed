"""How different images of one kind are from each other: of a prompt, or of a class."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from training.evaluation.intervals import Estimate, percentiles

ROUNDS = 200


def within_prompt(features: np.ndarray, prompts: Sequence[str]) -> dict[str, float]:
    """Mean distance between two images of a prompt, by features [N, D]; prompts with one image have none."""
    names = np.array(prompts)
    distances = {}
    for prompt in sorted(set(prompts)):
        rows = features[names == prompt]
        if len(rows) > 1:
            distances[prompt] = float(_pairwise(rows).sum() / (len(rows) * (len(rows) - 1)))
    return distances


def relative(generated: dict[str, float], real: dict[str, float]) -> float:
    """The mean over common prompts of generated diversity ÷ that of as many real images; nan without any."""
    common = [prompt for prompt in generated if real.get(prompt)]
    return float(np.mean([generated[prompt] / real[prompt] for prompt in common])) if common else float("nan")


def within_class(
    features: np.ndarray, labels: Sequence[str], real: np.ndarray, real_labels: Sequence[str]
) -> Estimate:
    """Of the images of a class, whatever else their prompts ask for, against real ones of it; images of every class are
    resampled, and an image is no pair with itself."""
    theirs, names = within_prompt(real, real_labels), np.array(labels)
    value = relative(within_prompt(features, labels), theirs)
    pairs = {label: _pairwise(features[names == label]) for label in sorted(set(labels))}
    random = np.random.default_rng(0)
    resampled = [relative(_resampled(pairs, random), theirs) for _ in range(ROUNDS)]
    return Estimate(value, *percentiles(resampled))


def change_within_class(
    ours: np.ndarray, theirs: np.ndarray, labels: Sequence[str], real: np.ndarray, real_labels: Sequence[str]
) -> Estimate:
    """How much more varied `ours` [N, D] are within a class than `theirs` [N, D], as a share of real images' diversity.

    Rows of both are of the same prompts and seeds; these pairs are resampled.
    """
    known, names = within_prompt(real, real_labels), np.array(labels)
    apart = [
        {label: _pairwise(side[names == label]) for label in sorted(set(labels))} for side in (ours, theirs)
    ]

    def change(seed: int | None) -> float:
        sides = [
            _resampled(side, np.random.default_rng(seed)) if seed is not None else _means(side)
            for side in apart
        ]
        return relative(sides[0], known) - relative(sides[1], known)

    return Estimate(change(None), *percentiles([change(seed) for seed in range(ROUNDS)]))


def _means(pairs: dict[str, np.ndarray]) -> dict[str, float]:
    return {
        label: float(rows.sum() / (len(rows) * (len(rows) - 1)))
        for label, rows in pairs.items()
        if len(rows) > 1
    }


def _resampled(pairs: dict[str, np.ndarray], random: np.random.Generator) -> dict[str, float]:
    pairs_by_label = {}
    for prompt, distances in pairs.items():
        chosen = random.integers(0, len(distances), len(distances))
        others = chosen[:, None] != chosen
        if others.any():
            pairs_by_label[prompt] = float(distances[np.ix_(chosen, chosen)][others].mean())
    return pairs_by_label


def _pairwise(rows: np.ndarray) -> np.ndarray:
    squares = (rows**2).sum(1)
    return np.asarray(np.sqrt(np.maximum(squares[:, None] + squares - 2 * rows @ rows.T, 0)))
