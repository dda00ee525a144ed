"""Counts drawing calls by side while a version serves as champion or candidate. No Ray."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from services import metrics
from services.convergence import Routes
from services.rollout.reading import SIDES
from vouch.errors import Cancelled, Exhausted, Unavailable

COMPARISON = "rollout-comparison"
"""The client that draws what another version has served, to compare the two."""


def side_of(routes: Routes[Any], digest: str) -> str:
    """ "candidate" or "champion"; "" for a version that is neither."""
    candidate, champion = SIDES
    if routes.candidate is not None and routes.candidate.digest == digest:
        return candidate
    return champion if routes.champion.digest == digest else ""


@contextmanager
def counted(side: str) -> Iterator[None]:
    """One call. A full queue and a caller who leaves are neither a failure nor a time.

    Input that the version refuses is a failure: bad requests fall on both sides by their shares, and a version that
    forgot words refuses more of them.
    """
    started = time.perf_counter()
    try:
        yield
    except Exception as error:
        if side and not isinstance(error, (Exhausted, Unavailable, Cancelled)):
            metrics.SIDE_FAILURES.labels(side).inc()
        raise
    if side:
        metrics.SIDE_SECONDS.labels(side).observe(time.perf_counter() - started)
