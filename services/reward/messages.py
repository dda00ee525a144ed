"""What the gateway asks of a reward replica, and what comes back. Plain values: they travel between processes."""

from __future__ import annotations

from dataclasses import dataclass

from vouch.types.score import ImageScore, ItemError


@dataclass(frozen=True, kw_only=True)
class ScoreRequest:
    """Encoded images, each with the prompt that it should show."""

    request_id: str  # chooses between champion and candidate
    items: tuple[tuple[bytes, str], ...]  # (encoded image, prompt)
    version: str = ""  # digest; "" for what the routing table says


@dataclass(frozen=True, kw_only=True)
class ScoreReply:
    """One outcome per item, in their order."""

    version: str  # digest
    outcomes: tuple[ImageScore | ItemError, ...]
    score_s: float
