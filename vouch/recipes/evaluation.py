"""What `vouch evaluate` asks: of a job of the system, or of a process here."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, Field

from vouch.errors import InvalidInput
from vouch.recipes.base import Recipe


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


class Evaluation(Recipe):
    """What a generator version draws beside the one that serves, and whether it may take its place."""

    version: str = Field(min_length=1, max_length=128, description="generator version that is evaluated")
    against: str = Field("", max_length=128, description="version to compare with; default: what serves")
    first: str = Field(
        "",
        max_length=128,
        description="first champion, since which nothing may be lost; default: the root of against's lineage",
    )
    data: Path = Field(description="labelled real images that no model has seen")
    train: Path | None = Field(
        None, description="images that it learned from; without them nothing is said of copies"
    )
    judge: Path | None = Field(
        None, description="folder of the judge; default: the starter's, for blood cells"
    )
    per_class: int = Field(50, ge=2, le=10_000, description="images of each class")
    steps: int | None = Field(None, ge=1, le=200, description="denoising steps; default: the version's own")
    guidance: float | None = Field(None, ge=0, le=30, description="guidance; default: the version's own")
    downstream: bool = Field(False, description="also train classifiers on the images, which needs train")
