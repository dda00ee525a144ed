"""What runs, as plain values for the web page."""

from __future__ import annotations

from typing import Any

import vouch
from services.rollout import policy
from services.rollout.controller import RolloutController
from vouch.errors import NotFound
from vouch.storage.catalog import Catalog
from vouch.types.records import Run, Serving

LATEST_RUNS = 8


def overview(catalog: Catalog, controller: RolloutController, started_at: Any) -> dict[str, Any]:
    """JSON-able: versions serving, replicas, runs, how much is kept."""
    return {
        "version": vouch.__version__,
        "started_at": started_at.strftime("%Y-%m-%d %H:%M:%S"),
        "slots": [_slot(catalog, controller, serving) for serving in catalog.serving.list()],
        "runs": [_run(run) for run in catalog.runs.list(page_size=LATEST_RUNS).items],
        "counts": {
            "ratings by people": catalog.ratings.count(("human",)),
            "ratings by simulated raters": catalog.ratings.count(("simulated",)),
        },
    }


def _run(run: Run) -> dict[str, Any]:
    return {
        "id": run.id,
        "state": run.state,
        "step": run.step,
        "total_steps": run.total_steps,
        "message": run.error or run.message,
    }


def _slot(catalog: Catalog, controller: RolloutController, serving: Serving) -> dict[str, Any]:
    reports = controller.living(serving.slot)
    refused = [report.reason for report in reports if not report.ok]
    return {
        "slot": serving.slot,
        "champion": _name(catalog, serving.champion),
        "digest": serving.champion,
        "candidate": _name(catalog, serving.candidate),
        "percent": serving.percent,
        "replicas": len(reports),
        "converged": bool(reports) and policy.converged(serving, reports) == len(reports),
        "reason": refused[0] if refused else "",
    }


def _name(catalog: Catalog, digest: str) -> str:
    try:
        return catalog.versions.get(digest).name if digest else ""
    except NotFound:
        return digest[:12]
