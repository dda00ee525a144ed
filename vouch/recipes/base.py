"""What the settings of every training have in common."""

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
    """Settings of a loop that depend on the kind of image."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    domain: Domain = Field(default_factory=shipped_domain)
    """The kind of image. Whoever starts a run of a system gets the system's; callers cannot give one."""
    symmetric: bool = Field(
        default_factory=lambda given: given["domain"].symmetric,
        description="flips and turns; False where left and right mean something, as in a chest X-ray; default: what "
        "the domain says",
    )


class Recipe(OfDomain):
    """The settings of a loop that its caller may choose."""

    seed: int = Field(0, ge=0, le=2**63 - 1, description="seed")
    threads: int = Field(2, ge=1, le=1024, description="threads of a worker")
