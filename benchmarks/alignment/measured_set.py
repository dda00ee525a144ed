"""One set of generated images as it was found by the judge, and by the rater that taught."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch

from benchmarks.alignment.world import STARTER
from benchmarks.report import Figure, Report
from training.data.examples import load_examples
from training.evaluation import support
from training.evaluation.evidence import GeneratedSet, RealReference, Seen
from training.evaluation.intervals import rate
from training.evaluation.judge import Judge
from training.evaluation.sealed import available, sealed_judge
from training.raters.plausibility import Plausibility


class Judges:
    """Who looks. real: folder of pbc64, or None: then nothing is said of copies. cache: of real images' features.

    sealed: whether figures are the sealed judge's, which selects nothing. It needs real images and its weights; without
    them the first judge stands in, and `sealed` says so. What decides something (the gate) is always the first judge's.
    """

    def __init__(self, real: Path | None, cache: Path, *, sealed: bool = False) -> None:
        self.first = Judge.load(STARTER / "judge")
        self.rater = Plausibility.load(STARTER / "rater")
        self.sealed = sealed and real is not None and available()
        self.judge = sealed_judge(real, cache).judge if self.sealed and real is not None else self.first
        self.real: RealReference | None = None
        if real is not None:
            unseen, train = (load_examples(real / f"{split}.parquet") for split in ("test", "train"))
            self.real = RealReference.of(self.judge, unseen, train, cache)

    @property
    def real_plausible(self) -> np.ndarray | None:
        """What the judge says of real images that nobody learned from, under their class alone as drawings are: [U]."""
        return None if self.real is None else self.real.assessed.plausible


class MeasuredSet:
    """`plausible`, `recognised`, `by_first` (the first judge) and `by_rater`: bool [N]. `seen`: what evidence can say,
    None without real images."""

    def __init__(self, drawn: GeneratedSet, judges: Judges) -> None:
        self._judges = judges
        assessed = judges.judge.assess(drawn.images, drawn.prompts)
        self.drawn, self.plausible, self.recognised = drawn, assessed.plausible, assessed.recognised
        self.by_first = (
            judges.first.assess(drawn.images, drawn.prompts).plausible if judges.sealed else self.plausible
        )
        pixels = torch.from_numpy(np.ascontiguousarray(drawn.images)).permute(0, 3, 1, 2)
        self.by_rater = judges.rater.assess(pixels, drawn.prompts).plausible
        self.seen = None if judges.real is None else Seen(drawn, judges.judge, judges.real)

    def tell(self, report: Report, name: str) -> None:
        judge = self._judges.judge
        report.add(f"{name}_plausible", share(self.plausible))
        report.add(f"{name}_plausible_by_first_judge", share(self.by_first))
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
