"""What the scores of a reward version mean. It lies in the version's ``reward.json``, beside the weights.

Two versions' scores are the same number for the same image only as far as both keep their word, so whoever has a
threshold looks here, and asks `vouch reward compare` where it went.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from vouch.errors import InvalidInput

FILE_NAME = "reward.json"
NAME = "plausibility-1"
"""Named anew when the meaning of a score changes."""


@dataclass(frozen=True, kw_only=True)
class Scale:
    """Example: ``Scale(temperature=1.3, calibrated_on=400, raters={"human": 2000})``."""

    temperature: float = 1.0
    """What every logit is divided by (Guo et al. 2017)."""
    calibrated_on: int = 0
    """Rated images, held out of training, on which the temperature was fitted; 0: never."""
    raters: Mapping[str, int] = field(default_factory=dict)
    """Whose ratings taught it, with their number: human, simulated."""

    @property
    def meaning(self) -> str:
        """One sentence for people."""
        simulated = set(self.raters) == {"simulated"}
        who = "a simulated rater" if simulated else "an expert"
        known = (
            f"calibrated on {self.calibrated_on} held-out rated images at temperature {self.temperature:.2f}"
        )
        return (
            f"probability that {who} finds the image plausible for its prompt; "
            f"{known if self.calibrated_on else 'not calibrated: no rating was held out'}"
        )

    def as_json(self) -> dict[str, Any]:
        return {
            "name": NAME,
            "meaning": self.meaning,
            "temperature": self.temperature,
            "calibrated_on": self.calibrated_on,
            "raters": dict(self.raters),
        }

    @classmethod
    def of(cls, config: Mapping[str, Any]) -> Scale:
        """From the content of ``reward.json``; versions before scales state their temperature only."""
        told = config.get("scale", {})
        return cls(
            temperature=float(config.get("temperature", 1.0)),
            calibrated_on=int(told.get("calibrated_on", 0)),
            raters=dict(told.get("raters", {})),
        )


def read_scale(folder: Path) -> Scale:
    """The scale that a reward folder states. Raises InvalidInput: it is not one."""
    if not (Path(folder) / FILE_NAME).is_file():
        raise InvalidInput(f"{folder} holds no {FILE_NAME}: it is not the folder of a reward model.")
    return Scale.of(json.loads((Path(folder) / FILE_NAME).read_text(encoding="utf-8")))
