"""The current time, as stored in records."""

from __future__ import annotations

from datetime import datetime, timezone


def now() -> datetime:
    """The current time in UTC, to the microsecond, the precision of the catalog."""
    return datetime.now(timezone.utc)
