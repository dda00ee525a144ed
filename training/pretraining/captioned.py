"""What pre-training reads: images in memory, and words for each."""

from __future__ import annotations

import random
from collections.abc import Sequence
from typing import Protocol

import numpy as np
import torch


class Captioned(Protocol):
    """Images that can say what they show: a labelled set (`training.data.examples.Examples`), or one with captions of
    its own (`training.adaptation.data.CaptionedSet`)."""

    @property
    def images(self) -> torch.Tensor:
        """uint8 [N, 3, H, W]."""
        ...

    @property
    def arrays(self) -> np.ndarray:
        """The images as uint8 [N, H, W, 3]."""
        ...

    @property
    def labels(self) -> Sequence[str]:
        """One for each image; each is a prompt, too."""
        ...

    def __len__(self) -> int: ...

    def caption(self, row: int, rng: random.Random) -> str:
        """One of the captions of the image in this row."""
        ...
