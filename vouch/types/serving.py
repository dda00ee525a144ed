"""Desired and actual serving state."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime

from vouch.types.clock import now


@dataclass(frozen=True, kw_only=True)
class Serving:
    """The desired state of a slot, on which the replicas converge."""

    slot: str  # "generator" | "reward"
    champion: str
    candidate: str = ""
    percent: int = 0  # of new requests that go to the candidate
    previous: str = ""  # the champion before this one
    sticky: bool = False  # percent of clients instead of requests
    revision: int = 1  # grows with every change
    updated_at: datetime = field(default_factory=now)


@dataclass(frozen=True, kw_only=True)
class ReplicaReport:
    """What one replica serves, as it reports."""

    replica_id: str
    revision: int  # of the desired state that it serves or cannot ever serve
    champion_version: str = ""  # digest
    candidate_version: str = ""  # digest
    ok: bool
    reason: str = ""  # why the desired state was refused, or could not be adopted yet
    reported_at: datetime = field(default_factory=now)
    slot: str = ""  # within the server alone


@dataclass(frozen=True, kw_only=True)
class ServingSlot:
    """The desired state of a slot, and the reports of its replicas."""

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
