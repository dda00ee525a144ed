"""What a rollout was asked to do by itself."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True, kw_only=True)
class RolloutPlan:
    """What a rollout was asked to do by itself, and how far it is."""

    steps: tuple[int, ...]  # shares in percent, rising, the last is 100
    hold_s: float  # seconds at each share before the next
    shadow: bool = False  # begins at 0 %: the candidate draws what the champion drew, and nothing is returned
    sticky: bool = False  # a client stays on one side
    gate: Mapping[str, Any] = field(default_factory=dict)  # the verdict of `vouch evaluate` that admitted it
    forced: str = ""  # why it was started against the gate
    system: str = ""  # the running system that it began in
    automatic: bool = True  # False: moved by an operator's word alone, until it is resumed
    paused: bool = False
    held_percent: int = 0  # the share that `held_s` was held at
    held_s: float = 0.0
    evidence: Mapping[str, Any] = field(
        default_factory=dict
    )  # counts, as services/rollout/evidence.py writes them
