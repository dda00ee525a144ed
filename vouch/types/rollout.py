"""Rollouts."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Literal

from vouch.types.rollout_plan import RolloutPlan

RolloutState = Literal["ACTIVE", "COMPLETED", "ROLLED_BACK"]
RolloutAction = Literal["start", "promote", "roll_back", "pause", "resume"]


@dataclass(frozen=True, kw_only=True)
class RolloutEvent:
    """One step of a rollout: who did what, when, and why."""

    at: datetime
    action: RolloutAction
    percent: int
    actor: str
    reason: str
    request_id: str = ""  # within the server alone


@dataclass(frozen=True, kw_only=True)
class Rollout:
    """A staged rollout of a candidate."""

    rollout_id: str  # "rollout-<n>"
    slot: str
    version: str  # digest of the candidate
    version_name: str = ""  # for callers
    previous_version: str  # the champion at the start, restored by a rollback
    previous_name: str = ""  # for callers
    state: RolloutState
    percent: int
    revision: int = 0  # of the desired state; for callers, like the counts and the reason
    replicas_converged: int = 0
    replicas_total: int = 0
    reason: str = ""
    events: tuple[RolloutEvent, ...]
    created_at: datetime
    updated_at: datetime
    progress: RolloutProgress | None = None  # for callers
    plan: RolloutPlan | None = (
        None  # server only; None: named by `vouch up`, or from before plans were stored
    )


@dataclass(frozen=True, kw_only=True)
class RolloutProgress:
    """Plan and progress of a rollout. Times in seconds."""

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
