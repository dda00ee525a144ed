"""Settings common to every training."""

from __future__ import annotations

from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field

from vouch.domains.criteria import Domain, load_domain

Sizes = Annotated[tuple[Annotated[int, Field(ge=1, le=4096)], ...], Field(min_length=1, max_length=16)]
"""Channels of the stages of a network."""
Decays = Annotated[tuple[Annotated[float, Field(ge=0, lt=1)], ...], Field(min_length=1, max_length=8)]
"""Decays of moving averages."""
Word = Annotated[str, Field(max_length=1000)]
Words = Annotated[tuple[Word, ...], Field(max_length=1000)]


def shipped_domain() -> Domain:
    return load_domain()


class Group(BaseModel):
    """Settings that belong together, given as ``group.name``."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class OfDomain(BaseModel):
    """Settings that depend on the kind of image."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    domain: Domain = Field(default_factory=shipped_domain)
    """The kind of image. A run of a system takes the system's domain; callers cannot set it."""
    symmetric: bool = Field(
        default_factory=lambda given: given["domain"].symmetric,
        description="augment by flips and quarter turns; False if orientation has a meaning, as in a chest X-ray; "
        "default: the domain's setting",
    )


class Recipe(OfDomain):
    """The settings of a run that its caller may choose."""

    seed: int = Field(0, ge=0, le=2**63 - 1, description="random seed")
    threads: int = Field(2, ge=1, le=1024, description="CPU threads per worker")
