"""Experts' ratings of images."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Literal, get_args

Answer = Literal["pass", "fail", "unsure"]
Verdict = Literal["plausible", "implausible", "unsure"]
RaterKind = Literal["human", "simulated"]

ANSWERS: tuple[str, ...] = get_args(Answer)
VERDICTS: tuple[str, ...] = get_args(Verdict)
RATER_KINDS: tuple[str, ...] = get_args(RaterKind)
MAX_DURATION_MS = 24 * 3600 * 1000
"""One day in milliseconds."""


@dataclass(frozen=True, kw_only=True)
class Preference:
    """A pairwise comparison of the rated image with `other`. preferred: the digest of the better one."""

    other: str
    preferred: str


@dataclass(frozen=True, kw_only=True)
class NewRating:
    """A rating as submitted. The catalog adds the other fields of `Rating`."""

    request_id: str  # idempotency key
    image: str
    rater: str
    kind: RaterKind
    verdict: Verdict
    answers: Mapping[str, Answer] = field(default_factory=dict)
    preference: Preference | None = None
    text: str = ""
    duration_ms: int = 0
    ui_version: str = ""
    supersedes: str = ""  # id of the rating that this one corrects


@dataclass(frozen=True, kw_only=True)
class Rating(NewRating):
    """A stored rating: never changed, never deleted."""

    id: str
    domain: str
    generator_version: str  # digest of the image's generator, "" for a real image
    created_at: datetime


@dataclass(frozen=True, kw_only=True)
class ImportFailure:
    """Why one rating or real image of an import was refused."""

    index: int  # position in the import
    request_id: str
    reason: str
    message: str


@dataclass(frozen=True, kw_only=True)
class ImportRatingsResponse:
    """Result of an import of ratings."""

    recorded: int
    already_recorded: int
    failed: int
    failures: tuple[ImportFailure, ...]


@dataclass(frozen=True, kw_only=True)
class ImportRealImagesResponse:
    """Result of an import of real images."""

    stored: int
    already_stored: int
    failed: int
    failures: tuple[ImportFailure, ...]
