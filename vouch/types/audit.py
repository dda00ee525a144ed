"""An entry of the audit log."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any


@dataclass(frozen=True, kw_only=True)
class AuditEntry:
    """One action of an operator, or of the system on an operator's behalf. Chained: `digest` covers `previous`."""

    number: int  # 1, 2, 3, ... without a gap
    at: datetime
    actor: str
    action: str  # the RPC, such as "StartRollout"
    subject: str  # what it acted on
    details: Mapping[str, Any]
    digest: str
    previous: str = ""  # digest of the entry before, "" for the first; within the server alone


@dataclass(frozen=True, kw_only=True)
class VerifyAuditResponse:
    """What the audit log is. broken_at: number of the first entry that does not fit; 0 when all of them do."""

    entries: int
    head: str
    intact: bool
    broken_at: int
    reason: str
