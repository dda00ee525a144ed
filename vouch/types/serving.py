"""What shall serve, and what does."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime

from vouch.types.clock import now


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
class ReplicaReport:
    """What one replica really serves, in its own words."""

    replica_id: str
    revision: int  # of the desired state that this report answers
    champion_version: str = ""  # digest
    candidate_version: str = ""  # digest
    ok: bool
    reason: str = ""  # why the desired state was refused
    reported_at: datetime = field(default_factory=now)
    slot: str = ""  # within the server alone


@dataclass(frozen=True, kw_only=True)
class ServingSlot:
    """What a slot shall serve, and what its replicas do."""

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
    """Every slot, and the system that serves them."""

    slots: tuple[ServingSlot, ...]
    vouch_version: str
    started_at: datetime | None
    audit_head: str = ""  # digest of the last entry of the audit log
