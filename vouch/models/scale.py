"""What the scores of a reward version mean. It lies in the version's ``reward.json``, beside the weights.

Two versions' scores are the same number for the same image only as far as both keep their word, so whoever has a
threshold looks here, and asks `vouch reward compare` where it went.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from vouch.errors import InvalidInput

FILE_NAME = "reward.json"
NAME = "plausibility-1"
"""Named anew when the meaning of a score changes."""


@dataclass(frozen=True, kw_only=True)
class Calibration:
    """How a logit becomes a probability: lapse + (1 - 2 · lapse) · σ(logit / temperature + offset).

    Temperature after Guo et al. 2017, offset after Platt 1999. The lapse is how often a rater answers otherwise however
    clear the image is (Wichmann & Hill 2001): without it a score near 0 or 1 promises what no rater keeps.
    """

    temperature: float = 1.0
    offset: float = 0.0
    lapse: float = 0.0


@dataclass(frozen=True, kw_only=True)
class Scale:
    """Example: ``Scale(verdict=Calibration(temperature=1.3), calibrated_on=400, raters={"human": 2000})``."""

    verdict: Calibration = Calibration()
    criteria: Mapping[str, Calibration] = field(default_factory=dict)
    """A criterion that is not named is calibrated by the verdict's temperature alone."""
    calibrated_on: int = 0
    """Rated images, held out of training, on which all this was fitted; 0: never."""
    raters: Mapping[str, int] = field(default_factory=dict)
    """Whose ratings taught it, with their number: human, simulated."""

    @property
    def meaning(self) -> str:
        """One sentence for people."""
        known = (
            f"calibrated on {self.calibrated_on} held-out rated images (temperature {self.verdict.temperature:.2f}, "
            f"offset {self.verdict.offset:+.2f}, lapse {self.verdict.lapse:.3f})"
        )
        return (
            f"probability that {self._whose} finds the image plausible for its prompt; "
            f"{known if self.calibrated_on else 'not calibrated: no rating was held out'}"
        )

    @property
    def _whose(self) -> str:
        """Whoever taught it: never simulated raters under the name of experts."""
        kinds = set(self.raters)
        if "simulated" in kinds:
            return "a simulated rater" if kinds == {"simulated"} else "a rater, some of them simulated,"
        return "an expert" if kinds else "an annotator of real images"

    def of_criterion(self, name: str) -> Calibration:
        return self.criteria.get(name, Calibration(temperature=self.verdict.temperature))

    def as_json(self) -> dict[str, Any]:
        return {"name": NAME, "meaning": self.meaning, **asdict(self)}

    @classmethod
    def of(cls, config: Mapping[str, Any]) -> Scale:
        """From the content of ``reward.json``; versions before scales state their temperature only."""
        scale = config.get("scale")
        if scale is None:
            return cls(verdict=Calibration(temperature=float(config.get("temperature", 1.0))))
        return cls(
            verdict=Calibration(**scale["verdict"]),
            criteria={name: Calibration(**one) for name, one in scale["criteria"].items()},
            calibrated_on=int(scale["calibrated_on"]),
            raters=dict(scale["raters"]),
        )


def read_scale(folder: Path) -> Scale:
    """The scale that a reward folder states. Raises InvalidInput: it is not one."""
    if not (Path(folder) / FILE_NAME).is_file():
        raise InvalidInput(f"{folder} holds no {FILE_NAME}: it is not the folder of a reward model.")
    return Scale.of(json.loads((Path(folder) / FILE_NAME).read_text(encoding="utf-8")))
