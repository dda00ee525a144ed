"""How much is measured."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class MeasurementPlan:
    """data: the folder of pbc64."""

    data: Path
    runs: int = 1_000  # A/A rollouts
    pairs: int = 20_000  # of each
    detections: int = 400  # rollouts of a candidate that is 5 points worse
    planted: int = 50  # bad candidates
    pool: int = 128  # pictures of the champion that they are compared with
    spare: int = 64  # more of them, which a candidate draws in the place of others
    steps: int = 8  # of a drawing
    replays: int = 1_000
    swaps: int = 20
    hold_s: float = 20.0
    window_s: float = 60.0


def full(data: Path) -> MeasurementPlan:
    """What is reported."""
    return MeasurementPlan(data)


def quick(data: Path) -> MeasurementPlan:
    """Shows that it runs."""
    return MeasurementPlan(
        data, runs=4, pairs=300, detections=4, planted=4, pool=16, spare=16, steps=2, replays=12, swaps=2, hold_s=2.0,
        window_s=5.0,
    )  # fmt: skip
