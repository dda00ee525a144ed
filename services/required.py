"""Required fields of requests."""

from __future__ import annotations

from typing import Any

from vouch.errors import InvalidInput


def required(request: Any, name: str) -> str:
    """The text of a field. Raises InvalidInput if it is empty."""
    value: str = getattr(request, name)
    if not value:
        raise InvalidInput(f"{name} is missing: say which one.")
    return value
