"""Images on their way to a rater, and the questions about them."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime
from typing import Literal, get_args

from vouch.types.clock import now
from vouch.types.rating import RaterKind

ReviewStratum = Literal["uniform", "queue", "real", "repeat"]
REVIEW_STRATA: tuple[str, ...] = get_args(ReviewStratum)


@dataclass(frozen=True, kw_only=True)
class HandedOut:
    """An image that the review queue gave to a rater, and how it was chosen.

    "uniform": drawn with equal chances from the images that no score decides about; "queue": drawn by how much its
    verdict would teach; "real": a hidden real image; "repeat": one that this rater has rated before.
    """

    image: str
    rater: str
    kind: RaterKind
    stratum: ReviewStratum
    propensity: float | None = None  # chance of being drawn in its turn, 0..1; of new images only
    created_at: datetime = field(default_factory=now)


@dataclass(frozen=True, kw_only=True)
class ReviewItem:
    """An image to rate, with no hint of its origin."""

    digest: str
    data: bytes = field(repr=False)
    media_type: str
    width: int
    height: int
    prompt: str


@dataclass(frozen=True, kw_only=True)
class ReviewQuestion:
    """One criterion of a domain's checklist, as a rater is asked about it."""

    criterion_id: str
    question: str
    help: str = ""


@dataclass(frozen=True, kw_only=True)
class DescribeCriteriaResponse:
    """The checklist of a domain."""

    domain: str
    title: str
    criteria: tuple[ReviewQuestion, ...]
