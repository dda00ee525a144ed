"""Of what use a model's drawings are: a classifier learns from them, and then from the few real images alone.

It is compared with a classifier that learns from these real images from the beginning: as many updates of the same
size, the same seed, the same changes of place, brightness and contrast. The generator saw no other real images.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch

from training.adaptation.data import CaptionedSet
from training.evaluation.downstream import Labelled, Learning, accuracy, kept_reading

SHARE = 0.05
"""Of the real training images."""
DRAWN = 600
FIRST_SEED = 400_000
"""Of no image that is measured otherwise."""
LEARNING = Learning(steps=400, synthetic_share=1.0, real_only_after=0.5, symmetric=False)


def labelled(images: CaptionedSet) -> Labelled:
    return Labelled(images.images, images.labels, images.groups)


def drawings(images: np.ndarray, labels: Sequence[str]) -> Labelled:
    """Of uint8 images [N, H, W, 3]."""
    return Labelled(torch.from_numpy(images).permute(0, 3, 1, 2).contiguous(), tuple(labels))


def downstream_gain(
    few: Labelled, drawn: Labelled, test: Labelled, seeds: int, kept: Path, learning: Learning = LEARNING
) -> dict[str, float | None]:
    """Accuracy of both classifiers on real test images, and the gain with its 95 % interval over seeds and patients,
    paired. kept: folder of what classifiers have read.
    """
    read = {
        name: np.stack([kept_reading(few, first, test, learning, seed, kept) for seed in range(seeds)])
        for name, first in (("real", None), ("generated_first", drawn))
    }
    gain = accuracy(read["generated_first"].astype(float) - read["real"], test.groups)
    return {
        **{f"downstream_accuracy_{name}": float(rows.mean()) for name, rows in read.items()},
        "downstream_gain_points": 100 * gain.value,
        "downstream_gain_low_points": 100 * gain.low,
        "downstream_gain_high_points": 100 * gain.high,
    }
