"""Curves and pictures in MLflow: a SQLite file in the state folder, or wherever MLFLOW_TRACKING_URI points."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from training.loop.tracker import NoTracker, Tracker
from vouch import recipes

EXPERIMENT = "vouch"


class MlflowTracker:
    """Logs into one MLflow run; a resumed job goes on in the run that it began."""

    def __init__(self, client: Any, run_id: str) -> None:
        self._client = client
        self._run_id = run_id

    def metrics(self, values: Mapping[str, float], step: int) -> None:
        for name, value in values.items():
            self._client.log_metric(self._run_id, name, float(value), step=step)

    def image(self, path: Path, step: int) -> None:
        self._client.log_artifact(self._run_id, str(path), "images")


@contextmanager
def tracker_for(job: Any) -> Iterator[Tracker]:
    """The tracker of a job (`training.jobs.worker.Work`), ended as FINISHED or FAILED."""
    uri = os.environ.get("MLFLOW_TRACKING_URI") or job.tracking_uri
    if not uri:
        yield NoTracker()
        return
    from mlflow.tracking import MlflowClient

    client = MlflowClient(uri)
    run_id = _run_of(client, job)
    try:
        yield MlflowTracker(client, run_id)
    except BaseException:
        client.set_terminated(run_id, "FAILED")
        raise
    client.set_terminated(run_id, "FINISHED")


def _run_of(client: Any, job: Any) -> str:
    marker = Path(job.folder) / "mlflow-run"
    if marker.is_file():
        return marker.read_text()
    experiment = client.get_experiment_by_name(EXPERIMENT)
    artifacts = (Path(job.folder) / "mlflow").resolve().as_uri()
    number = experiment.experiment_id if experiment else client.create_experiment(EXPERIMENT, artifacts)
    run = client.create_run(number, run_name=job.run_id or job.kind, tags={"vouch.kind": job.kind})
    for name, value in recipes.flat(job.config).items():
        client.log_param(run.info.run_id, name, str(value)[:500])
    marker.parent.mkdir(parents=True, exist_ok=True)
    marker.write_text(run.info.run_id)
    return run.info.run_id
