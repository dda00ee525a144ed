"""Candidates on their way into serving."""

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
    """A candidate on its way to champion, or back."""

    rollout_id: str  # "rollout-<n>"
    slot: str
    version: str  # digest of the candidate
    version_name: str = ""  # for callers
    previous_version: str  # the champion when it began, to which a roll-back returns
    previous_name: str = ""  # for callers
    state: RolloutState
    percent: int
    revision: int = 0  # of the desired state; for callers, as are the counts and the reason
    replicas_converged: int = 0
    replicas_total: int = 0
    reason: str = ""
    events: tuple[RolloutEvent, ...]
    created_at: datetime
    updated_at: datetime
    progress: RolloutProgress | None = None  # for callers
    plan: RolloutPlan | None = None  # within the server alone; None: begun before plans were kept


@dataclass(frozen=True, kw_only=True)
class RolloutProgress:
    """The plan of a rollout, and how far it is. Seconds."""

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
