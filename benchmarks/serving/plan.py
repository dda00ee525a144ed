"""How much is measured."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

from benchmarks.serving.runs import SATURATION, name_of


@dataclass(frozen=True)
class ServingPlan:
    """Times in seconds. Shares are of the bare limit."""

    repeats: int = 3
    seconds: float = 40.0  # of each load
    shares: tuple[float, ...] = (0.3, 0.6, 0.9)
    outstanding: int = 24  # requests under way at saturation
    warm_up_s: float = 30.0  # at saturation, before anything counts: until the longest requests end, too
    grace_s: float = 20.0  # from the end of a trace until what has no answer is abandoned
    tune_share: float = 0.6
    tune_s: float = 15.0  # of each setting that is tried
    whole_grid: bool = True  # whether every setting is tried, or the first taken
    practice: int = 8  # requests to each server before it is measured
    steps: tuple[int, ...] = (10, 20, 30, 50)
    sizes: tuple[int, ...] = (8, 16, 32)  # batches of the bare U-Net
    bare_s: float = 4.0  # for each size
    seed: int = 1

    @property
    def loads(self) -> tuple[str, ...]:
        """Saturation last: it leaves requests behind that a server may still work on."""
        return (*map(name_of, self.shares), SATURATION)

    def share_of(self, load: str) -> float:
        return next(share for share in self.shares if name_of(share) == load)

    def same_runs(self) -> dict[str, Any]:
        """What has to agree for runs to belong together; there may be more repeats of them."""
        return {name: value for name, value in asdict(self).items() if name != "repeats"}


QUICK = ServingPlan(
    repeats=1, seconds=3.0, warm_up_s=1.0, grace_s=10.0, tune_s=1.0, whole_grid=False, practice=4,
    steps=(2, 4), sizes=(8,), bare_s=1.0,
)  # fmt: skip
