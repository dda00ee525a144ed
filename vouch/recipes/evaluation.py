"""The request of `vouch evaluate`, for a job of the system or a local process."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, Field

from vouch.errors import InvalidInput
from vouch.recipes.base import Recipe


class EvaluationRequest(BaseModel):
    """One evaluation, with versions by name. As JSON it is the one argument of
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
    """None: the domain's setting."""
    downstream: bool = False
    settings: Mapping[str, Any] = {}
    """Further settings of the evaluation, such as `per_class`."""

    def check(self) -> EvaluationRequest:
        """Raises InvalidInput for options that need another one."""
        if self.downstream and self.train is None:
            raise InvalidInput("--downstream needs real training images: name them with --train.")
        if self.first and not self.against:
            raise InvalidInput("--first needs a comparison: name the champion with --against.")
        return self


class Evaluation(Recipe):
    """Comparison of a generator version with the champion, which decides the promotion gate."""

    version: str = Field(min_length=1, max_length=128, description="generator version that is evaluated")
    against: str = Field(
        "", max_length=128, description="version to compare with; default: the serving version"
    )
    first: str = Field(
        "",
        max_length=128,
        description="baseline of the cumulative non-inferiority check; default: the root of against's lineage",
    )
    data: Path = Field(description="labelled real images that no model was trained on")
    train: Path | None = Field(
        None, description="training images of the version; without them the copy check is skipped"
    )
    judge: Path | None = Field(
        None, description="folder of the judge; default: the starter's judge, for blood cells"
    )
    per_class: int = Field(50, ge=2, le=10_000, description="images per class")
    steps: int | None = Field(
        None, ge=1, le=200, description="denoising steps; default: the version's default"
    )
    guidance: float | None = Field(
        None, ge=0, le=30, description="guidance scale; default: the version's default"
    )
    downstream: bool = Field(False, description="also train classifiers on the generated images; needs train")
