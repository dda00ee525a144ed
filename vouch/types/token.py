"""Tokens: names, roles and scopes of callers."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Literal, get_args

Role = Literal["client", "rater", "operator"]
Scope = Literal["human", "simulated", "any-rater"]

ROLES: tuple[Role, ...] = get_args(Role)  # each includes those before it
SCOPES: tuple[Scope, ...] = get_args(Scope)


@dataclass(frozen=True, kw_only=True)
class Token:
    """An access token. Only the SHA-256 of its secret is stored."""

    name: str
    role: Role
    scopes: tuple[Scope, ...]
    """Kinds of ratings it may give: "human", "simulated"; "any-rater" allows other raters' names."""
    created_at: datetime
    last_used_at: datetime | None = None  # to the minute
    revoked_at: datetime | None = None


@dataclass(frozen=True, kw_only=True)
class DescribeCallerResponse:
    """Name, role and rights of a caller's token."""

    name: str
    role: str
    kinds: tuple[str, ...]
    any_rater: bool
