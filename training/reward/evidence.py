"""What is known of a reward version: `evidence.json` and a reliability diagram, which lie in the version's folder."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from importlib import resources
from pathlib import Path

import numpy as np
import torch
from jinja2 import Environment, select_autoescape

from training.evaluation.intervals import Estimate
from training.reward import calibration
from training.reward.calibration import Bin
from vouch.models.scale import Scale
from vouch.storage.atomic import write_whole

FORMAT = "reward-evidence-1"
UNIFORM = "drawn uniformly by the review queue"
CHOSEN = "a random share of all rated images"
MIXED = f"{UNIFORM}, and {CHOSEN}"
"""What rated images were held out. Of the last two some were chosen by the queue because they are hard."""


@dataclass(frozen=True)
class RewardEvidence:
    """Figures on rated images that no member learned from.

    Each score was made with a calibration fitted without its own rating. `ece` is the calibration error without its
    upward bias, `plain_ece` as it shows, and `perfect_ece` what exactly true scores would show on so few images.
    Criteria whose answers are all alike have no AUROC. `stratum` says how the images were chosen.
    """

    images: int
    ece: Estimate
    plain_ece: float
    perfect_ece: float
    auroc: Estimate | None
    criteria: Mapping[str, Estimate]
    bins: tuple[Bin, ...]
    stratum: str = CHOSEN

    @classmethod
    def of(
        cls, logits: torch.Tensor, targets: torch.Tensor, criteria: tuple[str, ...], stratum: str = CHOSEN
    ) -> RewardEvidence | None:
        """None where no verdict is known.

        Args:
            logits: [K, N, 1 + C] of the members, not calibrated, the verdict first.
            targets: [N, 1 + C] what raters said, in [0, 1], nan where open.
            stratum: how the images were chosen.
        """
        score, wanted = _known(logits[:, :, 0], targets[:, 0])
        if not len(score):
            return None
        by_criterion = {
            name: calibration.auroc(*_known(logits[:, :, 1 + c], targets[:, 1 + c]))
            for c, name in enumerate(criteria)
        }
        return cls(
            images=len(score),
            ece=calibration.calibration_error(score, wanted),
            plain_ece=calibration.expected_calibration_error(score, wanted),
            perfect_ece=calibration.error_of_perfect(score),
            auroc=calibration.auroc(score, wanted),
            criteria={name: estimate for name, estimate in by_criterion.items() if estimate is not None},
            bins=tuple(calibration.reliability(score, wanted)),
            stratum=stratum,
        )

    def figures(self) -> dict[str, float]:
        """The numbers by name, for the run's record and the version's lineage."""
        figures = {"held_out": float(self.images), "ece_of_perfect": self.perfect_ece}
        figures |= {"ece_plain": self.plain_ece, "uniform": float(self.stratum == UNIFORM)}
        named = {"ece": self.ece, "auroc": self.auroc}
        named |= {f"auroc_{name}": estimate for name, estimate in self.criteria.items()}
        for name, estimate in named.items():
            if estimate is not None:
                figures |= {name: estimate.value, f"{name}_low": estimate.low, f"{name}_high": estimate.high}
        return figures

    def write(self, folder: Path, scale: Scale) -> None:
        """`evidence.json` and `reliability.svg`."""
        document = {"format": FORMAT, "scale": scale.as_json(), **asdict(self)}
        write_whole(folder / "evidence.json", json.dumps(document, indent=1).encode())
        write_whole(folder / "reliability.svg", diagram(self, scale).encode())


def diagram(evidence: RewardEvidence, scale: Scale) -> str:
    """The share that raters passed against the mean score of each bin, with Wilson's intervals, over the diagonal."""
    source = (resources.files("training") / "evaluation" / "reliability.svg").read_text(encoding="utf-8")
    page = Environment(autoescape=select_autoescape(default=True, default_for_string=True)).from_string(
        source
    )
    most = max(one.images for one in evidence.bins)
    return page.render(found=evidence, bins=evidence.bins, most=most, meaning=scale.meaning)


def _known(logits: torch.Tensor, wanted: torch.Tensor) -> tuple[np.ndarray, np.ndarray]:
    """Cross-fitted scores and what raters say together, where somebody answered."""
    known = ~wanted.isnan()
    return calibration.crossed_scores(logits[:, known], wanted[known]), wanted[known].numpy()
