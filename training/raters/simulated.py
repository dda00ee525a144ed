"""Simulated pathologists: raters that are not people. Always recorded as such, for demo, tests and benchmarks.

One applies the checklist through an attribute network learned from the WBCAtt annotations and errs as often as
annotators differ from each other.
"""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch

from training.raters.plausibility import Plausibility
from vouch.domains.criteria import Domain, load_domain
from vouch.types.rating import Answer, Verdict

VERDICT_ERROR = 0.05


@dataclass(frozen=True)
class Opinion:
    """One simulated verdict. Example: ``Opinion("implausible", {"nucleus_shape": "fail"})``."""

    verdict: Verdict
    answers: Mapping[str, Answer]


class SimulatedPathologist:
    """One of several: they share what they know and differ in where they err."""

    def __init__(
        self, plausibility: Plausibility, name: str = "simulated-1", domain: Domain | None = None
    ) -> None:
        """domain: says how often experts differ on each criterion; default: the blood cells."""
        self.plausibility, self.name = plausibility, name
        self.error_rates = (domain or load_domain()).error_rates

    def rate(self, images: np.ndarray, prompts: Sequence[str], digests: Sequence[str]) -> list[Opinion]:
        """Opinions of uint8 images [N, H, W, 3]; the same rater says the same of the same image every time."""
        tensor = torch.from_numpy(np.ascontiguousarray(images)).permute(0, 3, 1, 2)
        assessment = self.plausibility.assess(tensor, prompts)
        opinions = []
        for row, digest in enumerate(digests):
            rng = random.Random(f"{self.name}/{digest}")
            answers: dict[str, Answer] = {
                name: _answer(float(values[row]), self.error_rates.get(name, 0.04), rng)
                for name, values in assessment.criteria.items()
            }
            plausible = bool(assessment.plausible[row]) != (rng.random() < VERDICT_ERROR)
            opinions.append(Opinion("plausible" if plausible else "implausible", answers))
        return opinions


def _answer(value: float, error: float, rng: random.Random) -> Answer:
    if np.isnan(value):
        return "unsure"
    return "pass" if (value > 0.5) != (rng.random() < error) else "fail"
