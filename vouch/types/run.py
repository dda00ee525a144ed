"""Training runs."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Literal, get_args

RunKind = Literal["pretrain", "reward", "align", "evaluate", "concept", "adapt"]
RunState = Literal["QUEUED", "RUNNING", "SUCCEEDED", "FAILED", "CANCELLED"]

RUN_KINDS: tuple[str, ...] = get_args(RunKind)
RUN_STATES: tuple[str, ...] = get_args(RunState)
RUN_ENDED: frozenset[str] = frozenset({"SUCCEEDED", "FAILED", "CANCELLED"})


@dataclass(frozen=True, kw_only=True)
class Run:
    """A training run: its settings, progress and result."""

    run_id: str  # "<kind>-<n>"
    kind: RunKind
    state: RunState
    config: Mapping[str, Any]
    step: int
    total_steps: int
    message: str
    metrics: Mapping[str, Any]
    version: str  # digest of the published version
    version_name: str = ""  # for callers
    error: str
    created_at: datetime
    started_at: datetime | None = None
    updated_at: datetime
    ended_at: datetime | None = None
    attempt: int  # 0 while queued; counts starts, so a resumed run shows 2
    inputs: Mapping[str, Any]  # fixed at the start: digests, rating ids
    created_by: str
    # Within the server alone; a client gets the defaults.
    request_id: str = ""
    cancel_requested: bool = False

    @property
    def ended(self) -> bool:
        return self.state in RUN_ENDED
