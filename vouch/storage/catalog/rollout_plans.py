"""The plan of a rollout that moves by itself: one row beside the rollout's own. Used by `rollouts.py` alone."""

from __future__ import annotations

from typing import Any

import sqlalchemy as sa

from vouch.storage.catalog import tables
from vouch.types.json_values import json_ready
from vouch.types.rollout_plan import RolloutPlan

_table = tables.rollout_plans


def insert(connection: sa.Connection, rollout: int, plan: RolloutPlan) -> None:
    values = {
        column.name: getattr(plan, column.name) for column in _table.columns if column.name != "rollout"
    }
    values |= {
        "steps": list(plan.steps),
        "gate": json_ready(plan.gate),
        "evidence": json_ready(plan.evidence),
    }
    connection.execute(sa.insert(_table).values(rollout=rollout, **values))


def find(connection: sa.Connection, rollout: int) -> RolloutPlan | None:
    """None for a rollout that began before plans were kept."""
    row = connection.execute(sa.select(_table).where(_table.c.rollout == rollout)).first()
    if row is None:
        return None
    values = {name: value for name, value in row._mapping.items() if name != "rollout"}
    return RolloutPlan(**{**values, "steps": tuple(values["steps"])})


def set_paused(connection: sa.Connection, rollout: int, paused: bool) -> None:
    """Whoever resumes a rollout that was moved by hand lets it move by itself."""
    values = {"paused": paused} if paused else {"paused": False, "automatic": True}
    connection.execute(sa.update(_table).where(_table.c.rollout == rollout).values(**values))


def set_progress(
    connection: sa.Connection, rollout: int, held_percent: int, held_s: float, evidence: Any
) -> None:
    values = {"held_percent": held_percent, "held_s": held_s, "evidence": evidence}
    connection.execute(sa.update(_table).where(_table.c.rollout == rollout).values(**values))
