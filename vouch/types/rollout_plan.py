"""The plan of an automatic rollout."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True, kw_only=True)
class RolloutPlan:
    """Plan and progress of an automatic rollout."""

    steps: tuple[int, ...]  # shares in percent, ascending, the last is 100
    hold_s: float  # minimum seconds at each share
    shadow: bool = False  # starts at 0 %: generates the champion's images too, without returning them
    sticky: bool = False  # sticky assignment per client
    gate: Mapping[str, Any] = field(default_factory=dict)  # the verdict of `vouch evaluate` that admitted it
    forced: str = ""  # why it was started against the gate
    system: str = ""  # the running system that started it
    automatic: bool = True  # False: moved only by operators, until it is resumed
    paused: bool = False
    held_percent: int = 0  # the share that `held_s` refers to
    held_s: float = 0.0
    evidence: Mapping[str, Any] = field(
        default_factory=dict
    )  # counts, as services/rollout/evidence.py writes them
