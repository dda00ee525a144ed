"""What served at a moment: which version, who decided, on which evidence, learned from whose ratings. No Ray."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from vouch.errors import NotFound
from vouch.storage.catalog import Catalog
from vouch.storage.registry import Registry
from vouch.types.rollout import Rollout, RolloutEvent
from vouch.types.serving import Serving

BATCH = 500


@dataclass(frozen=True, kw_only=True)
class Served:
    """One slot at a moment. rollout, event: what had made it so; None before the first rollout.

    raters: how many ratings of whom the champion and its ancestors learned from, by "name (kind)".
    """

    serving: Serving
    rollout: Rollout | None = None
    event: RolloutEvent | None = None
    raters: Mapping[str, int] = field(default_factory=dict)

    @property
    def gate(self) -> Mapping[str, Any]:
        return self.rollout.plan.gate if self.rollout and self.rollout.plan else {}


def served_at(catalog: Catalog, registry: Registry, slot: str, moment: datetime) -> Served:
    """Raises NotFound for a slot that was never set."""
    serving, rollout = catalog.rollouts.served_at(slot, moment)
    past = [event for event in rollout.events if event.at <= moment] if rollout else []
    return Served(
        serving=serving,
        rollout=rollout,
        event=past[-1] if past else None,
        raters=raters_of(catalog, registry, serving.champion),
    )


def raters_of(catalog: Catalog, registry: Registry, version: str) -> dict[str, int]:
    """Whose ratings a version and its ancestors learned from, the most first; empty for one that is not registered."""
    try:
        lineage = registry.lineage(version)
    except NotFound:
        return {}
    ids = list(dict.fromkeys(str(one) for each in lineage for one in each.lineage.get("ratings", ())))
    counts: Counter[str] = Counter()
    for start in range(0, len(ids), BATCH):
        for rating in catalog.ratings.get_many(ids[start : start + BATCH]):
            counts[f"{rating.rater} ({rating.kind})"] += 1
    return dict(counts.most_common())
