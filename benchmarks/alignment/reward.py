"""The reward that learned the ratings, on drawings that it never saw."""

from __future__ import annotations

import numpy as np

from benchmarks.alignment.world import World
from benchmarks.report import Figure, Report
from training.reward import calibration


def measure(report: Report, world: World) -> None:
    """Adds the reward's figures. The rater errs, so no reward can reach 1: what the rater itself would reach without
    its errors stands beside."""
    report.add("reward_seconds", Figure(world.rate()["train_seconds"], "s"))
    unseen = world.on_unseen()
    ece = calibration.calibration_error(unseen.scores, unseen.said)
    perfect = calibration.error_of_perfect(unseen.scores)
    report.add("reward_auroc", _auroc(unseen.scores, unseen.said, must=">= 0.90", aim=">= 0.95"))
    report.add("reward_auroc_ceiling", _auroc(unseen.meant, unseen.said))
    report.add("reward_auroc_noise_free", _auroc(unseen.scores, unseen.meant))
    report.add("reward_ece", Figure(ece.value, "share", ece.low, ece.high, must="<= 0.05", aim="<= 0.02"))
    plain = calibration.expected_calibration_error(unseen.scores, unseen.said)
    report.add("reward_ece_plain", Figure(plain, "share"))
    report.add("reward_ece_of_perfect", Figure(perfect, "share"))


def _auroc(scores: np.ndarray, wanted: np.ndarray, **bars: str) -> Figure:
    found = calibration.auroc(scores, wanted)
    if found is None:
        return Figure(None, "share", **bars)
    return Figure(found.value, "share", found.low, found.high, **bars)
