"""The settings that name what a training is applied to."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict, Field

from vouch.types.rating import RaterKind


class Asked(BaseModel):
    """The settings that name things outside the run's folder: versions, whose ratings."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    kinds: tuple[RaterKind, ...] = Field(("human",), description="whose ratings: human, simulated")
    domain: str | None = Field(None, description="criteria whose ratings are used; default: those in use")
    parent: str = Field("", description="version to go on from; default: what serves")
    generator: str = Field("", description="another word for parent in an alignment")
    reward: str = Field("", description="reward version that an alignment follows; default: what serves")
    name: str | None = Field(
        None, pattern=r"^[a-z0-9][a-z0-9._-]{0,63}$", description="name of the new version"
    )
