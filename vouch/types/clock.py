"""The present moment, as every record keeps it."""

from __future__ import annotations

from datetime import datetime, timezone


def now() -> datetime:
    """The present moment in UTC, to the microsecond (what the catalog keeps)."""
    return datetime.now(timezone.utc)
