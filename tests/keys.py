"""Tokens that are always the same, for what is tested without a catalog."""

from __future__ import annotations

from collections.abc import Mapping

from services.tokens import DEFAULT_SCOPES
from vouch.types.clock import now
from vouch.types.token import Role, Token


class FixedKeys:
    """The default tokens of a system, by their secrets: FixedKeys({"client": "secret"})."""

    def __init__(self, secrets: Mapping[Role, str]) -> None:
        self._secrets = secrets

    def find(self, secret: str) -> Token | None:
        role = next((role for role, known in self._secrets.items() if known == secret), None)
        if role is None:
            return None
        return Token(name=role, role=role, scopes=DEFAULT_SCOPES[role], created_at=now())
