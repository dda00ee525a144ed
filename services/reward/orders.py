"""What the gateway orders from a reward replica, and what comes back. Plain values: they travel between processes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class ScoreOrder:
    """Encoded images, each with the prompt that it should show."""

    request_id: str  # chooses between champion and candidate
    items: tuple[tuple[bytes, str], ...]  # (encoded image, prompt)
    version: str = ""  # digest; "" for what the routing table says


@dataclass(frozen=True, kw_only=True)
class ItemScore:
    """The score of one image."""

    overall: float  # probability of plausible
    std: float  # disagreement of the ensemble
    criteria: Mapping[str, float]


@dataclass(frozen=True, kw_only=True)
class ItemRefusal:
    """Why one image could not be scored."""

    reason: str
    message: str


@dataclass(frozen=True, kw_only=True)
class ScoreReply:
    """One outcome per item, in their order."""

    version: str  # digest
    outcomes: tuple[ItemScore | ItemRefusal, ...]
    score_s: float
