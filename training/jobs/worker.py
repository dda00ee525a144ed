"""One worker of a training job: builds the session, runs the loop. Knows the catalog and MLflow, not Ray."""

from __future__ import annotations

import json
import logging
import os
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from training.loop.progress import TrainingProgress
from training.loop.session import TrainingSession
from training.loop.worker_group import WorkerGroup
from vouch.errors import Exhausted, Unavailable
from vouch.storage.atomic import write_whole
from vouch.storage.catalog import Catalog

log = logging.getLogger("vouch.training")

NICE = 19
"""Training yields to serving: on a small machine Serve's health checks starve otherwise."""


@dataclass(frozen=True)
class Work:
    """What a worker is told, JSON through and through.

    `catalog_url` and `run_id` are empty for a run that no catalog records. `device` is "cpu", or "cuda" for a worker
    with a GPU.
    """

    kind: str
    config: Mapping[str, Any]
    folder: str
    catalog_url: str = field(default="", repr=False)
    run_id: str = ""
    tracking_uri: str = ""
    device: str = "cpu"

    def as_json(self) -> dict[str, Any]:
        return {**asdict(self), "config": dict(self.config)}


def work(job: Work) -> dict[str, float]:
    """Runs the job's loop to its end and returns its figures. Resumes from `job.folder`. Of several workers rank zero
    alone tells, and does what has no share in it for others."""
    from training.jobs.kinds import LOOPS, SHARED
    from training.jobs.tracking import tracker_for

    if job.catalog_url:
        os.nice(max(0, NICE - os.nice(0)))
    config_type, fit = LOOPS[job.kind]
    config = config_type.model_validate(job.config)
    group = WorkerGroup.here()
    if not group.is_rank_zero:
        session = TrainingSession(Path(job.folder), group=group, device=job.device)
        return fit(config, session) if job.kind in SHARED else {}
    with tracker_for(job) as tracker:
        session = TrainingSession(
            Path(job.folder), _run_reporter(job), tracker, group=group, device=job.device
        )
        return fit(config, session)


def progress_reporter(folder: Path) -> Callable[[TrainingProgress], bool]:
    """Tells progress in a file of the run's folder, which a bar shows, and goes on."""

    def report(progress: TrainingProgress) -> bool:
        write_whole(folder / "progress.json", json.dumps(asdict(progress)).encode())
        return True

    return report


def _run_reporter(job: Work) -> Callable[[TrainingProgress], bool]:
    write = progress_reporter(Path(job.folder))
    catalog = Catalog(job.catalog_url) if job.catalog_url else None

    def report(progress: TrainingProgress) -> bool:
        write(progress)
        return catalog is None or _record(catalog, job.run_id, progress)

    return report


def _record(catalog: Catalog, run_id: str, progress: TrainingProgress) -> bool:
    """Whether the run goes on: until it is cancelled. A report that the catalog cannot take now is left out."""
    try:
        run = catalog.runs.progress(
            run_id,
            step=progress.step,
            total_steps=progress.total_steps,
            message=progress.message,
            metrics=dict(progress.metrics),
        )
    except (Unavailable, Exhausted) as error:
        log.warning("the progress of %s at step %d is not in the catalog: %s", run_id, progress.step, error)
        return True
    return not run.cancel_requested
