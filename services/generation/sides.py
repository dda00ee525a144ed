"""Counts drawing calls by role: candidate, champion beside one, or champion alone. No Ray."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from services import metrics
from services.convergence import Routes
from services.rollout.reading import BASELINE, SIDES
from vouch.errors import Cancelled, Exhausted, Unavailable
from vouch.types.generation import GenerationRequest

COMPARISON = "rollout-comparison"
"""The client that draws what another version has served, to compare the two."""


def role_of(routes: Routes[Any], request: GenerationRequest, digest: str) -> str:
    """The role in which the request counts; "" where the routing table did not assign it.

    A version that a caller names says nothing of the shares. Of a stream, whose parts all stay on one version, the
    first part counts.
    """
    if (request.version and not request.assigned) or request.index(0) != 0:
        return ""
    if routes.candidate is None:
        return BASELINE if routes.champion.digest == digest else ""
    candidate, champion = SIDES
    return {routes.champion.digest: champion, routes.candidate.digest: candidate}.get(digest, "")


@contextmanager
def counted(role: str) -> Iterator[None]:
    """One call. A full queue and a caller who leaves are neither a failure nor a time.

    Input that the version refuses is a failure: bad requests fall on both sides by their shares, and a version that
    forgot words refuses more of them.
    """
    started = time.perf_counter()
    try:
        yield
    except Exception as error:
        if role and not isinstance(error, (Exhausted, Unavailable, Cancelled)):
            metrics.ROLLOUT_FAILURES.labels(role).inc()
        raise
    if role:
        metrics.ROLLOUT_SECONDS.labels(role).observe(time.perf_counter() - started)
