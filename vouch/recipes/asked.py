"""The settings that name the inputs of a training run."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict, Field

from vouch.types.rating import RaterKind


class Asked(BaseModel):
    """The inputs of a run from the catalog: versions and ratings."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    kinds: tuple[RaterKind, ...] = Field(("human",), description="kinds of ratings to use: human, simulated")
    domain: str | None = Field(None, description="domain whose ratings are used; default: the configured one")
    parent: str = Field("", description="version to train from; default: the serving version")
    generator: str = Field("", description="alias of parent in an alignment")
    reward: str = Field("", description="reward version of an alignment; default: the serving version")
    name: str | None = Field(
        None, pattern=r"^[a-z0-9][a-z0-9._-]{0,63}$", description="name of the new version"
    )
