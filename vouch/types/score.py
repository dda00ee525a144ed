"""Images to score, and their scores."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from vouch.types.clock import now


@dataclass(frozen=True, kw_only=True)
class ScoreItem:
    """An image to score: encoded bytes, or the digest of a stored image."""

    item_id: str = ""
    data: bytes | None = field(default=None, repr=False)
    digest: str | None = None
    prompt: str = ""


@dataclass(frozen=True, kw_only=True)
class ImageScore:
    """The score of one image. The gateway adds item_id and digest to the reward deployment's answer."""

    item_id: str = ""
    digest: str = ""  # of the image
    score: float  # probability that an expert finds it plausible, 0..1
    score_std: float  # disagreement of the ensemble
    criterion_scores: Mapping[str, float] = field(default_factory=dict)  # probability that each passes, 0..1
    reward_version: str = ""  # digest


@dataclass(frozen=True, kw_only=True)
class ItemError:
    """Why one image has no score."""

    reason: str
    message: str


@dataclass(frozen=True, kw_only=True)
class ScoreResult:
    """Exactly one of `score` and `error` is set."""

    item_id: str = ""
    score: ImageScore | None = None
    error: ItemError | None = None


@dataclass(frozen=True, kw_only=True)
class Score:
    """The score of one image by one reward version for the image's prompt, as stored in the catalog."""

    image: str
    version: str  # digest of the reward version
    overall: float  # probability of plausible, 0..1
    std: float  # disagreement of the ensemble
    criteria: Mapping[str, float] = field(default_factory=dict)
    created_at: datetime = field(default_factory=now)


def image_fields(score: Score | None) -> dict[str, Any]:
    """The score fields of an image; empty without a score."""
    if score is None:
        return {}
    return {
        "reward_version": score.version,
        "score": score.overall,
        "score_std": score.std,
        "criterion_scores": dict(score.criteria),
    }
