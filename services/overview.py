"""State of the system as plain values for the web page."""

from __future__ import annotations

from datetime import datetime
from typing import TypedDict

import vouch
from services.rollout import policy
from services.rollout.controller import RolloutController
from vouch.storage.catalog import Catalog
from vouch.types.run import Run
from vouch.types.serving import Serving

LATEST_RUNS = 8


class RunOverview(TypedDict):
    """A training run on the web page."""

    id: str
    state: str
    step: int
    total_steps: int
    message: str


class SlotOverview(TypedDict):
    """The serving versions of a slot, and the number of converged replicas."""

    slot: str
    champion: str
    digest: str
    candidate: str
    percent: int
    replicas: int
    converged: bool
    reason: str
    """Why a replica refused its version; "" when none did."""


class Overview(TypedDict):
    """Everything that the web page shows, as JSON can hold it."""

    version: str
    started_at: str
    slots: list[SlotOverview]
    runs: list[RunOverview]
    counts: dict[str, int]


def overview(catalog: Catalog, controller: RolloutController, started_at: datetime) -> Overview:
    """Versions that serve, replicas, runs, and numbers of ratings."""
    return {
        "version": vouch.__version__,
        "started_at": started_at.strftime("%Y-%m-%d %H:%M:%S"),
        "slots": _slots(catalog, controller),
        "runs": [_run(run) for run in catalog.runs.list(page_size=LATEST_RUNS).items],
        "counts": {
            "ratings by people": catalog.ratings.count(("human",)),
            "ratings by simulated raters": catalog.ratings.count(("simulated",)),
        },
    }


def _run(run: Run) -> RunOverview:
    return {
        "id": run.run_id,
        "state": run.state,
        "step": run.step,
        "total_steps": run.total_steps,
        "message": run.error or run.message,
    }


def _slots(catalog: Catalog, controller: RolloutController) -> list[SlotOverview]:
    slots = catalog.serving.list()
    names = catalog.versions.names_of(digest for slot in slots for digest in (slot.champion, slot.candidate))
    return [_slot(controller, serving, names) for serving in slots]


def _slot(controller: RolloutController, serving: Serving, names: dict[str, str]) -> SlotOverview:
    reports = controller.live_reports(serving.slot)
    refused = [report.reason for report in reports if not report.ok]
    return {
        "slot": serving.slot,
        "champion": names.get(serving.champion, serving.champion[:12]),
        "digest": serving.champion,
        "candidate": names.get(serving.candidate, serving.candidate[:12]),
        "percent": serving.percent,
        "replicas": len(reports),
        "converged": bool(reports) and policy.converged(serving, reports) == len(reports),
        "reason": refused[0] if refused else "",
    }
