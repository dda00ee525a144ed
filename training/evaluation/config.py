"""The settings of an evaluation."""

from __future__ import annotations

from pathlib import Path

from pydantic import BaseModel, ConfigDict, Field, model_validator

from vouch.domains.criteria import Domain
from vouch.recipes.base import shipped_domain


class EvaluatedVersion(BaseModel):
    """A version that is evaluated."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str
    folder: Path
    base: Path | None = None
    """Where `folder` holds a LoRA, the model that it belongs to."""


class EvaluateConfig(BaseModel):
    """One evaluation."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    version: EvaluatedVersion
    against: EvaluatedVersion | None = None
    first: EvaluatedVersion | None = None
    """The first champion, where that is another version than `against`: nothing may be lost since it either."""
    data: Path
    """Labelled real images that no model has seen."""
    domain: Domain = Field(default_factory=shipped_domain)
    """Says which of their columns no caption names, and which one says whose image each is."""
    train: Path | None = None
    """Those that the version learned from: without them nothing is said of copies."""
    judge: Path
    features: tuple[Path, ...] = ()
    """Local vision models of transformers, such as DINOv2, whose features are measured in beside the judge's."""
    cache: Path | None = None
    """Where features of real images are kept; the session's folder without it."""
    out: Path
    per_class: int = Field(50, ge=2)
    repeated_per_class: int = Field(2, ge=0)
    """Prompts of each class that are drawn with several seeds; 0: nothing is said of the diversity within a prompt."""
    repeats: int = Field(4, ge=2)
    """Seeds of each of them."""
    steps: int | None = Field(None, ge=1)
    guidance: float | None = None
    batch: int = Field(32, ge=1)
    symmetric: bool = Field(default_factory=lambda values: values["domain"].symmetric)
    """Whether flips and quarter turns of an image show the same thing: the copy alarm looks for turned copies then. By
    default what the domain says."""
    planted: int = Field(64, ge=0)
    """Training images that are planted as copies, to say how many of them the alarm finds; 0: none."""
    seed: int = 0
    threads: int = Field(2, ge=1)
    downstream: bool = False
    """Whether classifiers are trained on the images: minutes, and it needs `train`."""
    downstream_share: float = Field(0.1, gt=0, le=1)
    """Of the real training images that the classifiers learn from."""
    downstream_steps: int = Field(400, ge=10)
    downstream_seeds: int = Field(3, ge=1)

    @model_validator(mode="after")
    def _downstream_needs_real_images(self) -> EvaluateConfig:
        if self.downstream and self.train is None:
            raise ValueError(
                "downstream needs the real images of `train` to learn from beside the generated ones"
            )
        return self
