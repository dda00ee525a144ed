"""The output of a reward model, without torch."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol

import numpy as np


class Scores(Protocol):
    """Of N images: probability of plausible, its standard deviation over the members, one probability per criterion;
    arrays [N]."""

    @property
    def overall(self) -> np.ndarray: ...
    @property
    def std(self) -> np.ndarray: ...
    @property
    def criteria(self) -> Mapping[str, np.ndarray]: ...
