"""What validation measures after one step."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class ValidationPoint:
    """What was seen after `step` steps. reward: mean validation reward in [0, 1]. drift: of the statistic that moved
    most, how many standard deviations of the parent's images. variety: how different the images of a class are in the
    reward network's features, as a share of how different the parent's are."""

    step: int
    reward: float
    drift: float
    variety: float = 1.0
