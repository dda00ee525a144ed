"""What a call returns: one frozen class for each message of the contract, with its name and its fields.

Enums are words as in `vouch.types.records` ("human", "pass", "ACTIVE"; "" when not said), times are aware datetimes in
UTC, maps and structs are dicts, lists are tuples, and an optional field that is absent is None. Units, ranges and
defaults stand beside the fields in `protos/vouch/v1/`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

# ---- generation


@dataclass(frozen=True, kw_only=True)
class GeneratedImage:
    data: bytes = field(repr=False)
    media_type: str
    digest: str
    index: int
    width: int
    height: int
    prompt: str
    seed: int
    sampler: str
    steps: int
    guidance: float
    generator_version: str
    generator_name: str
    reward_version: str
    score: float | None
    score_std: float | None
    criterion_scores: Mapping[str, float]
    created_at: datetime | None
    guidance_method: str
    guidance_start: float
    guidance_stop: float
    adapter_start: float


@dataclass(frozen=True, kw_only=True)
class GenerationProgress:
    images_done: int
    images_total: int
    step: int
    total_steps: int
    elapsed_s: float


@dataclass(frozen=True, kw_only=True)
class ImagePreview:
    index: int
    step: int
    total_steps: int
    data: bytes = field(repr=False)
    media_type: str


@dataclass(frozen=True, kw_only=True)
class GenerationSummary:
    images: int
    generator_version: str
    reward_version: str
    engine_s: float
    score_s: float
    total_s: float
    whole_because: str


GenerationEvent = GenerationProgress | ImagePreview | GeneratedImage | GenerationSummary
"""What a stream of images brings."""


@dataclass(frozen=True, kw_only=True)
class GenerateImagesResponse:
    request_id: str
    images: tuple[GeneratedImage, ...]
    generator_version: str
    reward_version: str
    summary: GenerationSummary | None


@dataclass(frozen=True, kw_only=True)
class PromptAttribute:
    name: str
    values: tuple[str, ...]


@dataclass(frozen=True, kw_only=True)
class DescribeGeneratorResponse:
    generator_version: str
    generator_name: str
    width: int
    height: int
    sampler: str
    default_steps: int
    default_guidance: float
    open_vocabulary: bool
    labels: tuple[str, ...]
    attributes: tuple[PromptAttribute, ...]
    example_prompts: tuple[str, ...]
    max_images_per_call: int
    max_images_per_stream: int
    max_steps: int
    max_guidance: float
    whole_because: str
    kernel: str
    samplers: tuple[str, ...]
    default_guidance_method: str
    default_guidance_start: float
    default_guidance_stop: float
    default_adapter_start: float
    guidance_methods: tuple[str, ...]


# ---- reward


@dataclass(frozen=True, kw_only=True)
class ScoreItem:
    """An image to score: encoded bytes, or the digest of a stored image."""

    item_id: str = ""
    data: bytes | None = field(default=None, repr=False)
    digest: str | None = None
    prompt: str = ""


@dataclass(frozen=True, kw_only=True)
class ImageScore:
    item_id: str
    digest: str
    score: float
    score_std: float
    criterion_scores: Mapping[str, float]
    reward_version: str


@dataclass(frozen=True, kw_only=True)
class ItemError:
    reason: str
    message: str


@dataclass(frozen=True, kw_only=True)
class ScoreResult:
    """Exactly one of `score` and `error` is there."""

    item_id: str
    score: ImageScore | None
    error: ItemError | None


# ---- feedback; ratings are `vouch.types.records.Rating`


@dataclass(frozen=True, kw_only=True)
class ImportFailure:
    index: int
    request_id: str
    reason: str
    message: str


@dataclass(frozen=True, kw_only=True)
class ImportRatingsResponse:
    recorded: int
    already_recorded: int
    failed: int
    failures: tuple[ImportFailure, ...]


@dataclass(frozen=True, kw_only=True)
class RealImage:
    """A real image to hide in reviews: encoded bytes, and its class with or without attributes."""

    data: bytes = field(repr=False)
    prompt: str


@dataclass(frozen=True, kw_only=True)
class ImportRealImagesResponse:
    stored: int
    already_stored: int
    failed: int
    failures: tuple[ImportFailure, ...]


@dataclass(frozen=True, kw_only=True)
class ReviewItem:
    digest: str
    data: bytes = field(repr=False)
    media_type: str
    width: int
    height: int
    prompt: str


@dataclass(frozen=True, kw_only=True)
class Criterion:
    criterion_id: str
    question: str
    help: str


@dataclass(frozen=True, kw_only=True)
class DescribeCriteriaResponse:
    domain: str
    title: str
    criteria: tuple[Criterion, ...]


@dataclass(frozen=True, kw_only=True)
class DescribeCallerResponse:
    name: str
    role: str
    kinds: tuple[str, ...]
    any_rater: bool


@dataclass(frozen=True, kw_only=True)
class StoredImage:
    digest: str
    data: bytes = field(repr=False)
    media_type: str
    size_bytes: int
    width: int
    height: int
    source: str
    prompt: str
    seed: int | None
    sampler: str
    steps: int | None
    guidance: float | None
    generator_version: str
    generator_name: str
    reward_version: str
    score: float | None
    score_std: float | None
    criterion_scores: Mapping[str, float]
    request_id: str
    rating_count: int
    created_at: datetime | None
    label: str
    guidance_method: str
    guidance_start: float | None
    guidance_stop: float | None
    adapter_start: float | None


# ---- models


@dataclass(frozen=True, kw_only=True)
class VersionFile:
    path: str
    sha256: str
    size_bytes: int


@dataclass(frozen=True, kw_only=True)
class VersionLineage:
    command: str
    run_id: str
    data: Mapping[str, str]
    rating_count: int
    rating_ids: tuple[str, ...]
    metrics: Mapping[str, float]
    notes: Mapping[str, Any]


@dataclass(frozen=True, kw_only=True)
class Version:
    digest: str
    name: str
    kind: str
    format: str
    parent: str
    parent_name: str
    created_at: datetime | None
    size_bytes: int
    files: tuple[VersionFile, ...]
    lineage: VersionLineage | None
    evidence: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class ReplicaReport:
    replica_id: str
    revision: int
    champion_version: str
    candidate_version: str
    ok: bool
    reason: str
    reported_at: datetime | None


@dataclass(frozen=True, kw_only=True)
class ServingSlot:
    slot: str
    champion_version: str
    champion_name: str
    candidate_version: str
    candidate_name: str
    candidate_percent: int
    revision: int
    converged: bool
    replicas: tuple[ReplicaReport, ...]


@dataclass(frozen=True, kw_only=True)
class GetServingResponse:
    slots: tuple[ServingSlot, ...]
    vouch_version: str
    started_at: datetime | None
    audit_head: str = ""


# ---- rollout


@dataclass(frozen=True, kw_only=True)
class RolloutEvent:
    at: datetime | None
    action: str
    percent: int
    actor: str
    reason: str


@dataclass(frozen=True, kw_only=True)
class Rollout:
    rollout_id: str
    slot: str
    version: str
    version_name: str
    previous_version: str
    previous_name: str
    state: str
    percent: int
    revision: int
    replicas_converged: int
    replicas_total: int
    reason: str
    events: tuple[RolloutEvent, ...]
    created_at: datetime | None
    updated_at: datetime | None
    progress: RolloutProgress | None = None


@dataclass(frozen=True, kw_only=True)
class RolloutProgress:
    steps: tuple[int, ...]
    hold_s: float
    held_s: float
    paused: bool
    shadow: bool
    sticky: bool
    gate: Mapping[str, Any]
    forced: str
    evidence: Mapping[str, Any]
    decision: str
    log10_e_worse: float
    log10_e_not_worse: float
    automatic: bool


@dataclass(frozen=True, kw_only=True)
class ServedSlot:
    slot: str
    champion_version: str
    champion_name: str
    candidate_version: str
    candidate_name: str
    candidate_percent: int
    rollout_id: str
    decided_by: str
    decided_at: datetime | None
    reason: str
    gate: Mapping[str, Any]
    raters: Mapping[str, int]


@dataclass(frozen=True, kw_only=True)
class GetServingHistoryResponse:
    slots: tuple[ServedSlot, ...]


@dataclass(frozen=True, kw_only=True)
class AuditEntry:
    number: int
    at: datetime | None
    actor: str
    action: str
    subject: str
    details: Mapping[str, Any]
    digest: str


@dataclass(frozen=True, kw_only=True)
class VerifyAuditResponse:
    entries: int
    head: str
    intact: bool
    broken_at: int
    reason: str


@dataclass(frozen=True, kw_only=True)
class ReplayImageResponse:
    generator_version: str
    generator_name: str
    same: bool
    equal: bool
    largest_difference: int
    data: bytes


# ---- training


@dataclass(frozen=True, kw_only=True)
class Run:
    run_id: str
    kind: str
    state: str
    config: Mapping[str, Any]
    step: int
    total_steps: int
    message: str
    metrics: Mapping[str, float]
    version: str
    version_name: str
    error: str
    created_at: datetime | None
    started_at: datetime | None
    updated_at: datetime | None
    ended_at: datetime | None
    attempt: int
    inputs: Mapping[str, Any]
    created_by: str
