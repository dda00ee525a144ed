"""`python -m training.run --run RUN`: carries out one run that the catalog records, and publishes.

Where catalog, blobs and versions are, the settings say: those in `VOUCH_SNAPSHOT`, which a running system passes, else
those of the environment.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import shlex
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

from training.jobs.plans import Plan, Store, plan
from training.jobs.ray_train import raise_reported, run_on_ray
from training.jobs.worker import Work
from vouch import recipes
from vouch.errors import Cancelled, VouchError
from vouch.formats.escapes import visible_lines
from vouch.models.scale import read_scale
from vouch.settings import SNAPSHOT, Settings, load_settings, settings_of_snapshot
from vouch.storage.catalog import Catalog
from vouch.storage.state import PRIVATE
from vouch.types.run import Run
from vouch.types.version import Version

Fit = Callable[[Work], dict[str, Any]]
"""Carries out a loop, from its last checkpoint where there is one, and returns its figures."""


def execute(settings: Settings, run_id: str, fit: Fit = run_on_ray) -> Version:
    """Runs to the end: freeze, fit, publish. The run's record says RUNNING until the version is published.

    Raises:
        VouchError: why it could not; the run is then recorded as FAILED or CANCELLED with the same sentence.
    """
    store = Store.open(settings)
    run = store.catalog.runs.start(run_id)
    try:
        version = _publish(run, store, settings, fit)
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


def _publish(run: Run, store: Store, settings: Settings, fit: Fit) -> Version:
    agreed = plan(run, store)
    store.catalog.runs.freeze_inputs(run.run_id, agreed.inputs)
    figures = raise_reported(fit(_work(run, settings, agreed)))
    if agreed.kind == "evidence":
        return _attach(run, store, agreed, figures)
    lineage = {
        **agreed.lineage,
        "run_id": run.run_id,
        "command": _command(run),
        "metrics": figures,
        **_scale(agreed, store.folder.run(run.run_id) / "version"),
    }
    version = store.registry.publish(
        store.folder.run(run.run_id) / "version",
        kind=agreed.kind,
        format=agreed.format,
        name=agreed.name,
        parent=agreed.parent,
        lineage=lineage,
    )
    store.catalog.runs.finish(run.run_id, "SUCCEEDED", version=version.digest, metrics=figures)
    return version


def _attach(run: Run, store: Store, agreed: Plan, figures: dict[str, Any]) -> Version:
    """Keeps the verdict of an evaluation with the version that it is of."""
    from training.evaluation.run import attach

    sides = {name: str(agreed.lineage[name]) for name in ("version", "against", "first")}
    out = store.folder.run(run.run_id) / "evidence"
    attach(store, sides["version"], sides["against"], out, sides["first"], by=run.created_by)
    store.catalog.runs.finish(run.run_id, "SUCCEEDED", version=sides["version"], metrics=figures)
    return store.registry.get(sides["version"])


def _scale(agreed: Plan, folder: Path) -> dict[str, Any]:
    """What the scores of a reward version mean, so that its record says it too."""
    return {"scale": read_scale(folder).as_json()} if agreed.kind == "reward" else {}


def _work(run: Run, settings: Settings, agreed: Plan) -> Work:
    folder = settings.folder
    return Work(
        run.kind,
        agreed.config,
        str(folder.run(run.run_id).resolve()),
        settings.resolved_catalog_url,
        run.run_id,
        folder.mlflow_uri,
    )


def _command(run: Run) -> str:
    """The command line that would ask for the same again."""
    config = recipes.flat(run.config)
    words = ["vouch", "adapt"] if run.kind == "adapt" else ["vouch", "train", run.kind]
    if run.kind == "concept":
        words = [
            "vouch",
            "concept",
            "add",
            str(config.pop("concept")),
            "--parent",
            str(config.pop("kind_of")),
        ]
    for name, value in config.items():
        words += [f"--{name.replace('_', '-')}", value if isinstance(value, str) else json.dumps(value)]
    return shlex.join(words)


def _settings(state: Path | None) -> Settings:
    text = os.environ.get(SNAPSHOT)
    return settings_of_snapshot(text) if text and state is None else load_settings(state=state)


def drain(settings: Settings, fit: Fit = run_on_ray) -> int:
    """Carry out queued runs until none is left. How many; 0 where another process does so at this moment.

    A run that fails is recorded as FAILED, and the next one begins.
    """
    count = 0
    with Catalog(settings.resolved_catalog_url) as catalog, catalog.runs.queue() as alone:
        while alone and (run := catalog.runs.oldest_open()):
            count += 1
            with contextlib.suppress(VouchError):
                execute(settings, run.run_id, fit)
    return count


def main() -> int:
    parser = argparse.ArgumentParser(description="Carries out recorded training runs.")
    which = parser.add_mutually_exclusive_group(required=True)
    which.add_argument("--run", help="the id of one run")
    which.add_argument("--queued", action="store_true", help="every run that waits, oldest first")
    parser.add_argument("--state", type=Path, help="state folder, where no system passes its settings")
    arguments = parser.parse_args()
    os.umask(PRIVATE)
    try:
        settings = _settings(arguments.state)
        wanted = settings.training
        fit = partial(run_on_ray, workers=wanted.workers, min_workers=wanted.min_workers, gpus=wanted.gpus)
        if arguments.queued:
            sys.stdout.write(f"carried out {drain(settings, fit)} runs\n")
            return 0
        version = execute(settings, arguments.run, fit)
    except VouchError as error:
        sys.stderr.write(visible_lines(f"error: {error.message}\n"))
        return error.exit_code
    sys.stdout.write(f"published {version.name} ({version.digest[:12]})\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
