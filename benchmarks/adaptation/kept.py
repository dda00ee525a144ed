"""What an adapted model still knows of its base's domain: whether cells are recognised, and how many kinds it draws."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from benchmarks.adaptation.judges import CELLS_JUDGE, FindingJudge, share_of
from benchmarks.adaptation.ladder import KNOWN_CELLS
from benchmarks.adaptation.sets import Sets, mixed
from training.evaluation.coverage import coverage
from vouch.models.networks.attributes import AttributeNet


@dataclass(frozen=True, eq=False)
class KnownCells:
    """A judge of the cells that the base knows, and the features [N, D] of real ones, which nothing learned from."""

    judge: FindingJudge
    real: np.ndarray

    @classmethod
    def load(cls, sets: Sets, count: int) -> KnownCells:
        """count: real cells that coverage is measured of."""
        judge = FindingJudge("cells", AttributeNet.load(CELLS_JUDGE))
        return cls(judge, judge.see(mixed(sets.cells("test", only=KNOWN_CELLS), count).arrays)[1])

    @staticmethod
    def prompts(count: int) -> list[str]:
        """`count` prompts, the types in turn; two of each type at least, for coverage looks at six neighbours."""
        return [KNOWN_CELLS[n % len(KNOWN_CELLS)] for n in range(max(2 * len(KNOWN_CELLS), count))]

    def figures(self, images: np.ndarray, prompts: list[str]) -> dict[str, float | None]:
        """Balanced share of images uint8 [N, H, W, 3] that are recognised as the cell that was asked for, and the
        coverage of real cells, which is comparable only between equal numbers of images."""
        logits, features = self.judge.see(images)
        return {
            "known_recognised": share_of(KNOWN_CELLS, prompts, self.judge, logits),
            "known_coverage": coverage(self.real, features)["coverage"],
        }
