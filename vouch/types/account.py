"""Serving history, and the replay of an image."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any


@dataclass(frozen=True, kw_only=True)
class ServedSlot:
    """The desired state of a slot at a time, and who decided it. raters: number of ratings by "name (kind)"."""

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
    """Every slot at that time."""

    slots: tuple[ServedSlot, ...]


@dataclass(frozen=True, kw_only=True)
class ReplayImageResponse:
    """The replay of an image, encoded as PNG. largest_difference: of a pixel, in grey levels."""

    generator_version: str
    generator_name: str
    same: bool
    equal: bool
    largest_difference: int
    data: bytes = field(repr=False)
