"""Images for review, and the questions of a rating."""

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
    """An image that the review queue gave to a rater, and how it was selected.

    "uniform": sampled uniformly from the images reserved for it; "queue": sampled by informativeness; "real": a hidden
    real image; "repeat": an image that this rater has rated before.
    """

    image: str
    rater: str
    kind: RaterKind
    stratum: ReviewStratum
    propensity: float | None = None  # probability of its selection, 0..1; of new images only
    created_at: datetime = field(default_factory=now)


@dataclass(frozen=True, kw_only=True)
class ReviewItem:
    """An image to rate, without its origin."""

    digest: str
    data: bytes = field(repr=False)
    media_type: str
    width: int
    height: int
    prompt: str


@dataclass(frozen=True, kw_only=True)
class ReviewQuestion:
    """One criterion of a domain's checklist, as shown to a rater."""

    criterion_id: str
    question: str
    help: str = ""


@dataclass(frozen=True, kw_only=True)
class DescribeCriteriaResponse:
    """The checklist of a domain."""

    domain: str
    title: str
    criteria: tuple[ReviewQuestion, ...]
