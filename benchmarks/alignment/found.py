"""One set of generated images as it was found by the judge, and by the rater that taught."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch

from benchmarks.alignment.world import STARTER
from benchmarks.report import Figure, Report
from training.data import load_examples
from training.evaluation import support
from training.evaluation.evidence import Drawn, RealImages, Seen
from training.evaluation.intervals import rate
from training.evaluation.judge import Judge
from training.plausibility import Plausibility


class Eyes:
    """Who looks. real: folder of pbc64, or None: then nothing is said of copies. cache: of real images' features."""

    def __init__(self, real: Path | None, cache: Path) -> None:
        self.judge, self.rater = Judge.load(STARTER / "judge"), Plausibility.load(STARTER / "rater")
        self.real: RealImages | None = None
        if real is not None:
            unseen, train = (load_examples(real / f"{split}.parquet") for split in ("test", "train"))
            self.real = RealImages.of(self.judge, unseen, train, cache)

    @property
    def real_plausible(self) -> float | None:
        """What the judge says of real images that nobody learned from."""
        return None if self.real is None else float(self.real.assessed.plausible.mean())


class Found:
    """`plausible`, `recognised` and `by_rater`: bool [N]. `seen`: what evidence can say, None without real images."""

    def __init__(self, drawn: Drawn, eyes: Eyes) -> None:
        self._eyes = eyes
        assessed = eyes.judge.assess(drawn.images, drawn.prompts)
        self.drawn, self.plausible, self.recognised = drawn, assessed.plausible, assessed.recognised
        pixels = torch.from_numpy(np.ascontiguousarray(drawn.images)).permute(0, 3, 1, 2)
        self.by_rater = eyes.rater.assess(pixels, drawn.prompts).plausible
        self.seen = None if eyes.real is None else Seen(drawn, eyes.judge, eyes.real)

    def tell(self, report: Report, name: str) -> None:
        judge = self._eyes.judge
        report.add(f"{name}_plausible", share(self.plausible))
        report.add(f"{name}_plausible_by_rater", share(self.by_rater))
        report.add(f"{name}_recognised", share(self.recognised))
        covered = judge.coverage(self.drawn.images)
        report.add(f"{name}_coverage", Figure(covered.value, "share", covered.low, covered.high))
        levels = support.recall_levels(judge.reference, judge.features(self.drawn.images))
        report.add(f"{name}_beta_recall", Figure(support.integrated(levels), "share"))
        if self.seen is not None:
            report.add(f"{name}_authentic", share(self.seen.authentic))
            report.add(f"{name}_copy_alarm_rate", share(self.seen.alarmed))


def share(passed: np.ndarray) -> Figure:
    found = rate(int(passed.sum()), len(passed))
    return Figure(found.value, "share", found.low, found.high)
