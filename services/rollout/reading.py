"""Counters of candidate and champion at one moment. Free of any heavy import: every process reads metrics."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

SIDES = ("candidate", "champion")
SLOW = 0.95
"""Quantile of the champion's times before the rollout, above which a request is slow."""


@dataclass(frozen=True)
class SideMetrics:
    """Counters at one moment, of one side: requests that failed, and requests by the upper edge of their time (s)."""

    failed: float = 0.0
    by_edge: Mapping[float, float] = field(default_factory=dict)  # cumulative, as Prometheus has them

    def slower_than(self, edge: float) -> float:
        total = max(self.by_edge.values(), default=0.0)
        return total - self.by_edge.get(edge, total)


Readings = Mapping[str, SideMetrics]
"""By side."""


def slow_edge(champion: SideMetrics, quantile: float = SLOW) -> float:
    """The smallest edge below which `quantile` of the champion's requests lie; infinite without any."""
    total = max(champion.by_edge.values(), default=0.0)
    edges = (edge for edge, count in sorted(champion.by_edge.items()) if total and count >= quantile * total)
    return next(edges, float("inf"))
