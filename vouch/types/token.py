"""Who may call, and what for."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Literal, get_args

Role = Literal["client", "rater", "operator"]
Scope = Literal["human", "simulated", "any-rater"]

ROLES: tuple[Role, ...] = get_args(Role)  # each may do what those before it may
SCOPES: tuple[Scope, ...] = get_args(Scope)


@dataclass(frozen=True, kw_only=True)
class Token:
    """Who may call, by name. The secret itself is not kept, its SHA-256 is."""

    name: str
    role: Role
    scopes: tuple[Scope, ...]
    """What its ratings may be: "human", "simulated", and under other names than the token's: "any-rater"."""
    created_at: datetime
    last_used_at: datetime | None = None  # to the minute
    revoked_at: datetime | None = None


@dataclass(frozen=True, kw_only=True)
class DescribeCallerResponse:
    """Who a caller's token stands for, and what its ratings may be."""

    name: str
    role: str
    kinds: tuple[str, ...]
    any_rater: bool
