"""An entry of the audit log."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any


@dataclass(frozen=True, kw_only=True)
class AuditEntry:
    """One action of an operator or of the system. Hash chain: `digest` covers `previous`."""

    number: int  # 1, 2, 3, ... without a gap
    at: datetime
    actor: str
    action: str  # such as "rollout start"
    subject: str  # subject of the action, such as "rollout-3"
    details: Mapping[str, Any]
    digest: str
    previous: str = ""  # digest of the previous entry, "" for the first; server only


@dataclass(frozen=True, kw_only=True)
class VerifyAuditResponse:
    """Result of a verification. broken_at: number of the first entry that fails; 0 when none does."""

    entries: int
    head: str
    intact: bool
    broken_at: int
    reason: str
