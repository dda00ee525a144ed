"""The judge: measures, never teaches. Its weights and images are disjoint from every rater's and reward's."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import load_file, save_file

from training.attributes.recognition import recognise
from training.data.digest import digest_of
from training.data.examples import Examples
from training.evaluation.coverage import coverage
from training.evaluation.features import Extractor
from training.evaluation.intervals import Estimate, rate
from training.raters.plausibility import Assessment, Plausibility

REFERENCE_FILE = "reference.safetensors"


@dataclass(frozen=True)
class JudgeSummary:
    """What the judge measured of a set of images."""

    images: int
    plausible: Estimate
    recognised: Estimate
    coverage: Estimate


class Judge:
    """A calibrated plausibility with the features [R, D] of real images that coverage is measured against."""

    def __init__(
        self, plausibility: Plausibility, reference: np.ndarray, floor: float, digest: str = ""
    ) -> None:
        self.plausibility, self.reference, self.floor = plausibility, reference, floor
        self.extractor = Extractor("judge", digest, self.features)

    def assess(self, images: np.ndarray, prompts: Sequence[str]) -> Assessment:
        """The verdict of each image, uint8 [N, H, W, 3]."""
        return self.plausibility.assess(_tensor(images), prompts)

    def measure(self, images: np.ndarray, prompts: Sequence[str]) -> JudgeSummary:
        """Plausible and recognised rate (Wilson) and coverage, with their 95 % intervals."""
        assessment = self.assess(images, prompts)
        return JudgeSummary(
            len(images),
            rate(int(assessment.plausible.sum()), len(images)),
            rate(int(assessment.recognised.sum()), len(images)),
            self.coverage(images),
        )

    def coverage(self, images: np.ndarray) -> Estimate:
        """Coverage of the reference, with Wilson's interval over its real images.

        Resampling the generated images instead would halve their variety and miss the value itself.
        """
        share = coverage(self.reference, self.features(images))["coverage"]
        return rate(round(share * len(self.reference)), len(self.reference))

    def features(self, images: np.ndarray) -> np.ndarray:
        """Features [N, D] of uint8 images [N, H, W, 3]."""
        return recognise(self.plausibility.net, _tensor(images)).features.numpy()

    def confidence(self, images: np.ndarray, prompts: Sequence[str]) -> np.ndarray:
        """Log-probability of the declared class, [N]."""
        vocabulary = self.plausibility.vocabulary
        log_probability = recognise(self.plausibility.net, _tensor(images)).labels.log_softmax(1)
        declared = [vocabulary.labels.index(vocabulary.parse(prompt).label) for prompt in prompts]
        return log_probability[torch.arange(len(declared)), declared].numpy()

    def save(self, folder: Path) -> None:
        self.plausibility.save(folder)
        save_file({"reference": torch.from_numpy(self.reference).half()}, folder / REFERENCE_FILE)
        (folder / "judge.json").write_text(json.dumps({"coverage_floor": self.floor}))

    @classmethod
    def load(cls, folder: Path) -> Judge:
        folder = Path(folder)
        reference = load_file(folder / REFERENCE_FILE)["reference"].float().numpy()
        floor = json.loads((folder / "judge.json").read_text())["coverage_floor"]
        return cls(Plausibility.load(folder), reference, floor, digest_of(folder))


def coverage_floor(judge: Judge, real: Examples, per_class: int) -> float:
    """Coverage of other real images, as many of each class as a generated set would hold: the best that one can ask."""
    rows: list[int] = []
    for label in judge.plausibility.vocabulary.labels:
        rows += [i for i, other in enumerate(real.labels) if other == label][:per_class]
    features = judge.features(real.images[rows].permute(0, 2, 3, 1).numpy())
    return coverage(judge.reference, features)["coverage"]


def _tensor(images: np.ndarray) -> torch.Tensor:
    return torch.from_numpy(np.ascontiguousarray(images)).permute(0, 3, 1, 2)
