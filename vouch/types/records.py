"""The values that pass between the parts of vouch: frozen, typed, and free of any heavy import.

Times are aware datetimes in UTC. Digests are lower-case SHA-256 in hexadecimal (64 characters). A text that is
not known is "", a number that is not known is None.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime, timezone
from typing import Any, Generic, Literal, TypeVar, get_args

from vouch.types.guidance import PLAIN, GuidanceChoice, GuidanceOptions
from vouch.types.rollout_plan import RolloutPlan

Answer = Literal["pass", "fail", "unsure"]
Verdict = Literal["plausible", "implausible", "unsure"]
RaterKind = Literal["human", "simulated"]
ImageSource = Literal["generated", "real", "uploaded"]
VersionKind = Literal["generator", "reward", "rater", "judge"]
ReviewStratum = Literal["uniform", "queue", "real", "repeat"]
RunKind = Literal["pretrain", "reward", "align", "evaluate", "concept"]
RunState = Literal["QUEUED", "RUNNING", "SUCCEEDED", "FAILED", "CANCELLED"]
RolloutState = Literal["ACTIVE", "COMPLETED", "ROLLED_BACK"]
RolloutAction = Literal["start", "promote", "roll_back", "pause", "resume"]
Role = Literal["client", "rater", "operator"]
Scope = Literal["human", "simulated", "any-rater"]

ANSWERS: tuple[str, ...] = get_args(Answer)
VERDICTS: tuple[str, ...] = get_args(Verdict)
RATER_KINDS: tuple[str, ...] = get_args(RaterKind)
IMAGE_SOURCES: tuple[str, ...] = get_args(ImageSource)
VERSION_KINDS: tuple[str, ...] = get_args(VersionKind)
REVIEW_STRATA: tuple[str, ...] = get_args(ReviewStratum)
RUN_KINDS: tuple[str, ...] = get_args(RunKind)
RUN_STATES: tuple[str, ...] = get_args(RunState)
ROLES: tuple[Role, ...] = get_args(Role)  # each may do what those before it may
SCOPES: tuple[Scope, ...] = get_args(Scope)
RUN_ENDED: frozenset[str] = frozenset({"SUCCEEDED", "FAILED", "CANCELLED"})

T = TypeVar("T")


def now() -> datetime:
    """The present moment in UTC, to the microsecond (what the catalog keeps)."""
    return datetime.now(timezone.utc)


def json_ready(value: Any) -> Any:
    """The value as JSON gives it back: tuples as lists, text as keys, None for NaN and ∞.

    A loss that became NaN must not cost the record of the run.
    """
    if isinstance(value, Mapping):
        return {str(name): json_ready(inner) for name, inner in value.items()}
    if isinstance(value, (list, tuple)):
        return [json_ready(inner) for inner in value]
    if isinstance(value, float):
        return float(value) if math.isfinite(value) else None
    if value is None or isinstance(value, (str, bool, int)):
        return value
    raise TypeError(f"{type(value).__name__} cannot be kept as JSON: give numbers, text, lists and dicts")


@dataclass(frozen=True, kw_only=True)
class Page(Generic[T]):
    """One page of a list. `next_token` is opaque; "" means that this was the last page."""

    items: tuple[T, ...]
    next_token: str = ""


@dataclass(frozen=True, kw_only=True)
class ImageRecord:
    """Where an image came from. The bytes are in the blob store under `digest`."""

    digest: str
    media_type: str
    width: int  # pixels
    height: int  # pixels
    size_bytes: int
    source: ImageSource
    prompt: str = ""
    label: str = ""  # the declared class, e.g. "neutrophil"
    seed: int | None = None  # 0 .. 2^63-1
    sampler: str = ""
    steps: int | None = None
    guidance: float | None = None  # the scale; the rest as in vouch.types.guidance.GuidanceOptions
    guidance_method: str = ""
    guidance_start: float | None = None
    guidance_stop: float | None = None
    adapter_start: float | None = None
    generator_version: str = ""  # digest of the version that drew it
    request_id: str = ""
    created_at: datetime = field(default_factory=now)

    @property
    def guidance_options(self) -> GuidanceOptions:
        """How it was guided, to draw it again; the plain way where the record says nothing."""
        choice = GuidanceChoice(
            method=self.guidance_method or None,
            start=self.guidance_start,
            stop=self.guidance_stop,
            adapter_start=self.adapter_start,
        )
        return choice.upon(PLAIN)


@dataclass(frozen=True, kw_only=True)
class Score:
    """What one reward version says of one image under its declared prompt."""

    image: str
    version: str  # digest of the reward version
    overall: float  # probability of plausible, 0..1
    std: float  # disagreement of the ensemble
    criteria: Mapping[str, float] = field(default_factory=dict)
    created_at: datetime = field(default_factory=now)


@dataclass(frozen=True, kw_only=True)
class Preference:
    """A pairwise verdict: of the rated image and `other`, `preferred` is the better (a digest of the two)."""

    other: str
    preferred: str


@dataclass(frozen=True, kw_only=True)
class NewRating:
    """A verdict as it is handed in. The catalog adds the rest and makes it a `Rating`."""

    request_id: str  # the same id and content twice is one rating
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
    """A verdict as it is kept: never changed, never deleted."""

    id: str
    domain: str
    generator_version: str  # digest of the version that drew the image, "" when no generator did
    created_at: datetime


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
class Token:
    """Who may call, by name. The secret itself is not kept, its SHA-256 is."""

    name: str
    role: Role
    scopes: tuple[Scope, ...]
    """What its ratings may be: "human", "simulated", and under other names than the token's: "any-rater"."""
    created_at: datetime
    last_used_at: datetime | None = None  # to the minute
    revoked_at: datetime | None = None


@dataclass(frozen=True, kw_only=True)
class FileEntry:
    """One file of a version, as its manifest states it."""

    sha256: str
    bytes: int


@dataclass(frozen=True, kw_only=True)
class Version:
    """An immutable model version. `digest` is the SHA-256 of its canonical manifest."""

    digest: str
    name: str
    kind: VersionKind
    format: str  # "diffusers" | "lora" | "reward" ...
    parent: str  # digest, "" for a root
    files: Mapping[str, FileEntry]
    lineage: Mapping[str, Any]
    created_at: datetime


@dataclass(frozen=True, kw_only=True)
class Run:
    """A training job: what was asked, how far it is, what came of it."""

    id: str  # "<kind>-<n>"
    kind: RunKind
    state: RunState
    config: Mapping[str, Any]
    request_id: str
    created_by: str
    attempt: int  # 0 while queued; counts starts, so a resumed run shows 2
    step: int
    total_steps: int
    message: str
    metrics: Mapping[str, Any]
    inputs: Mapping[str, Any]  # what was frozen at the start: digests, rating ids
    version: str  # digest of what it published
    error: str
    cancel_requested: bool
    created_at: datetime
    updated_at: datetime
    started_at: datetime | None = None
    ended_at: datetime | None = None

    @property
    def ended(self) -> bool:
        return self.state in RUN_ENDED


@dataclass(frozen=True, kw_only=True)
class Serving:
    """What a slot shall serve: desired state, on which the replicas converge."""

    slot: str  # "generator" | "reward"
    champion: str
    candidate: str = ""
    percent: int = 0  # of new requests that go to the candidate
    previous: str = ""  # the champion before this one
    sticky: bool = False  # the share is of clients, not of requests
    revision: int = 1  # grows with every change
    updated_at: datetime = field(default_factory=now)


@dataclass(frozen=True, kw_only=True)
class RolloutEvent:
    """One step of a rollout: who did what, when, and why."""

    action: RolloutAction
    percent: int
    actor: str
    reason: str
    request_id: str
    at: datetime


@dataclass(frozen=True, kw_only=True)
class Rollout:
    """A candidate on its way to champion, or back."""

    id: str  # "rollout-<n>"
    slot: str
    candidate: str
    champion: str  # the champion when it began, to which a roll-back returns
    state: RolloutState
    percent: int
    events: tuple[RolloutEvent, ...]
    created_at: datetime
    updated_at: datetime
    plan: RolloutPlan | None = None  # None: begun before plans were kept


@dataclass(frozen=True, kw_only=True)
class ReplicaReport:
    """What one replica really serves, in its own words."""

    slot: str
    replica: str
    revision: int  # of the desired state that this report answers
    ok: bool
    reason: str = ""  # why the desired state was refused
    champion: str = ""
    candidate: str = ""
    updated_at: datetime = field(default_factory=now)
