"""Counters of candidate and champion at one moment. Free of any heavy import: every process reads metrics."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

SIDES = ("candidate", "champion")
BASELINE = "baseline"
"""The champion while no candidate is beside it."""
ROLES = (*SIDES, BASELINE)
SLOW = 0.95
"""Quantile of the champion's times, above which a request is slow. It is fixed before slow requests are counted."""
FEWEST = 20
"""Requests of the champion from which the quantile is taken."""


@dataclass(frozen=True)
class RoleMetrics:
    """Counters at one moment, of one role: requests that failed, and the others by the upper edge of their time (s)."""

    failed: float = 0.0
    by_edge: Mapping[float, float] = field(default_factory=dict)  # cumulative, as Prometheus has them

    @property
    def timed(self) -> float:
        return max(self.by_edge.values(), default=0.0)

    def slower_than(self, edge: float) -> float:
        return self.timed - self.by_edge.get(edge, self.timed)


Readings = Mapping[str, RoleMetrics]
"""By role."""


def slow_edge(readings: Readings, quantile: float = SLOW) -> float | None:
    """The smallest edge (s) below which `quantile` of the champion's requests lie, so far; None before `FEWEST`.

    Where more of them are slower than the last finite edge, that edge.
    """
    parts = [readings[role] for role in ("champion", BASELINE)]
    total = sum(part.timed for part in parts)
    if total < FEWEST:
        return None
    edges = sorted({edge for part in parts for edge in part.by_edge if edge != float("inf")})
    enough = (
        edge for edge in edges if sum(part.by_edge.get(edge, 0.0) for part in parts) >= quantile * total
    )
    return next(enough, edges[-1])
