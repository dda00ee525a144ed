"""`python -m training.run --state DIR --run RUN`: carries out one run that the catalog records, and publishes."""

from __future__ import annotations

import argparse
import json
import os
import shlex
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

from training.jobs import raise_reported, run_on_ray
from training.plans import Plan, Store, plan
from training.worker import Work
from vouch.errors import Cancelled, VouchError
from vouch.models.scale import read_scale
from vouch.storage.state import PRIVATE
from vouch.types.records import Run, Version

Fit = Callable[[Work], dict[str, Any]]
"""Carries out a loop, from its last checkpoint where there is one, and returns its figures."""


def execute(state: Path, run_id: str, fit: Fit = run_on_ray, domain: str = "blood_cells") -> Version:
    """Runs to the end: freeze, fit, publish. The run's record says RUNNING until the version is published.

    Raises:
        VouchError: why it could not; the run is then recorded as FAILED or CANCELLED with the same sentence.
    """
    store = Store.open(state, domain)
    run = store.catalog.runs.start(run_id)
    try:
        version = _publish(run, store, fit)
    except Cancelled as error:
        store.catalog.runs.finish(run_id, "CANCELLED", error=error.message)
        raise
    except VouchError as error:
        store.catalog.runs.finish(run_id, "FAILED", error=error.message)
        raise
    except Exception as error:
        sentence = (
            f"The job ended by a defect ({type(error).__name__}: {error}). Its log is in the run's folder."
        )
        store.catalog.runs.finish(run_id, "FAILED", error=sentence)
        raise
    return version


def _publish(run: Run, store: Store, fit: Fit) -> Version:
    agreed = plan(run, store)
    store.catalog.runs.freeze_inputs(run.id, agreed.inputs)
    figures = raise_reported(fit(_work(run, store, agreed)))
    if agreed.kind == "evidence":
        return _attach(run, store, agreed, figures)
    lineage = {
        **agreed.lineage,
        "run_id": run.id,
        "command": _command(run),
        "metrics": figures,
        **_scale(agreed, store.folder.run(run.id) / "version"),
    }
    version = store.registry.publish(
        store.folder.run(run.id) / "version",
        kind=agreed.kind,
        format=agreed.format,
        name=agreed.name,
        parent=agreed.parent,
        lineage=lineage,
    )
    store.catalog.runs.finish(run.id, "SUCCEEDED", version=version.digest, metrics=figures)
    return version


def _attach(run: Run, store: Store, agreed: Plan, figures: dict[str, Any]) -> Version:
    """Keeps the verdict of an evaluation with the version that it is of."""
    from training.evaluate import attach

    sides = {name: str(agreed.lineage[name]) for name in ("version", "against", "first")}
    attach(store, sides["version"], sides["against"], store.folder.run(run.id) / "evidence", sides["first"])
    store.catalog.runs.finish(run.id, "SUCCEEDED", version=sides["version"], metrics=figures)
    return store.registry.get(sides["version"])


def _scale(agreed: Plan, folder: Path) -> dict[str, Any]:
    """What the scores of a reward version mean, so that its record says it too."""
    return {"scale": read_scale(folder).as_json()} if agreed.kind == "reward" else {}


def _work(run: Run, store: Store, agreed: Plan) -> Work:
    state = str(Path(store.folder.root).resolve())
    return Work(
        run.kind, agreed.config, str(store.folder.run(run.id)), state, run.id, store.folder.mlflow_uri
    )


def _command(run: Run) -> str:
    """The command line that would ask for the same again."""
    config = dict(run.config)
    asked = ["vouch", "train", run.kind]
    if run.kind == "concept":
        asked = [
            "vouch",
            "concept",
            "add",
            str(config.pop("concept")),
            "--parent",
            str(config.pop("kind_of")),
        ]
    for name, value in config.items():
        asked += [f"--{name.replace('_', '-')}", value if isinstance(value, str) else json.dumps(value)]
    return shlex.join(asked)


def main() -> int:
    parser = argparse.ArgumentParser(description="Carries out one recorded training run.")
    parser.add_argument("--state", type=Path, required=True)
    parser.add_argument("--run", required=True)
    parser.add_argument("--domain", default="blood_cells", help="a shipped domain, or the path of a file")
    parser.add_argument("--workers", type=int, default=1)
    parser.add_argument("--gpus", type=float, default=0.0, help="of each worker")
    arguments = parser.parse_args()
    os.umask(PRIVATE)
    fit = partial(run_on_ray, workers=arguments.workers, gpus=arguments.gpus)
    try:
        version = execute(arguments.state, arguments.run, fit, arguments.domain)
    except VouchError as error:
        sys.stderr.write(f"error: {error.message}\n")
        return error.exit_code
    sys.stdout.write(f"published {version.name} ({version.digest[:12]})\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
