"""What `vouch evaluate` asks of the process that evaluates."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict

from vouch.errors import InvalidInput


class EvaluationRequest(BaseModel):
    """One evaluation, with versions by name as a person gives them. As JSON it is the one argument of
    ``python -m training evaluate``."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    version: str
    data: Path
    out: Path
    state: Path
    against: str = ""
    first: str = ""
    train: Path | None = None
    judge: Path | None = None
    features: tuple[Path, ...] = ()
    domain: str = ""
    """A shipped domain, or the folder of another one; "": the system's."""
    symmetric: bool | None = None
    """None: what the domain says."""
    downstream: bool = False
    settings: Mapping[str, Any] = {}
    """Further settings of the evaluation, such as `per_class`."""

    def check(self) -> EvaluationRequest:
        """Raises InvalidInput for options that need another one."""
        if self.downstream and self.train is None:
            raise InvalidInput("--downstream needs the real images to learn from: name them with --train.")
        if self.first and not self.against:
            raise InvalidInput(
                "--first is the first champion of a comparison: name what serves with --against."
            )
        return self
