"""`python -m training pretrain …`: training outside a running system, on a Ray of its own."""

from __future__ import annotations

import json
import sys
import threading
import time
from pathlib import Path
from typing import Annotated, Any

import typer
from pydantic import ValidationError
from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)

from vouch.errors import InvalidInput, VouchError

app = typer.Typer(add_completion=False, no_args_is_help=True, help="Train outside a running system.")


@app.callback()
def main() -> None:
    """Keeps `pretrain` a sub-command."""


@app.command()
def pretrain(
    data: Annotated[Path, typer.Option(help="Labelled Parquet, tar or folder: the training split only.")],
    out: Annotated[Path, typer.Option(help="Where the diffusers folder goes.")],
    run_dir: Annotated[
        Path, typer.Option(help="Checkpoints, sample grids, MLflow. The same folder resumes.")
    ] = Path("state/runs/pretrain"),
    setting: Annotated[list[str], typer.Option("--set", help="Any setting: --set steps=2000")] = [],  # noqa: B006
    workers: Annotated[int, typer.Option(help="Ray Train workers.")] = 1,
    as_json: Annotated[bool, typer.Option("--json", help="Print the figures as JSON.")] = False,
) -> None:
    """Learns a miniature Stable Diffusion from a labelled image set and writes a plain diffusers folder.

    Example: python -m training pretrain --data train.parquet --out model --set minutes=60
    """
    from training.pretrain import PretrainConfig

    values = {"data": str(data.resolve()), "out": str(out.resolve()), **_settings(setting)}
    try:
        config = PretrainConfig.model_validate(values).model_dump(mode="json")
    except ValidationError as error:
        first = error.errors()[0]
        known = ", ".join(PretrainConfig.model_fields)
        raise InvalidInput(
            f"Setting {'.'.join(map(str, first['loc']))}: {first['msg']}. Known settings: {known}."
        ) from None
    figures = _run("pretrain", config, run_dir.resolve(), workers)
    print(json.dumps(figures, indent=None if as_json else 1))


def _run(kind: str, config: dict[str, Any], folder: Path, workers: int) -> dict[str, Any]:
    from training.jobs import raise_reported, run_on_ray
    from training.worker import Work

    folder.mkdir(parents=True, exist_ok=True)
    job = Work(kind, config, str(folder), tracking_uri=f"sqlite:///{folder}/mlflow.db")
    with _bar(folder / "progress.json"):
        return raise_reported(run_on_ray(job, workers=workers))


def _settings(pairs: list[str]) -> dict[str, Any]:
    found = {}
    for pair in pairs:
        name, equals, value = pair.partition("=")
        if not equals:
            raise InvalidInput(f"--set {pair!r} is not of the form NAME=VALUE.")
        try:
            found[name] = json.loads(value)
        except ValueError:
            found[name] = value
    return found


class _bar:
    """A progress bar fed from the file that the worker writes."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._stop = threading.Event()
        columns = (
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            TimeRemainingColumn(),
        )
        self._progress = Progress(*columns, console=Console(stderr=True))

    def __enter__(self) -> None:
        self._progress.start()
        self._thread = threading.Thread(target=self._follow, daemon=True)
        self._thread.start()

    def __exit__(self, *exc: object) -> None:
        self._stop.set()
        self._thread.join()
        self._progress.stop()

    def _follow(self) -> None:
        task = self._progress.add_task("starting", total=None)
        began = time.time()
        while not self._stop.wait(0.5):
            if self._path.is_file() and self._path.stat().st_mtime >= began:
                seen = json.loads(self._path.read_text())
                self._progress.update(
                    task, completed=seen["step"], total=seen["total_steps"], description=seen["message"]
                )


if __name__ == "__main__":
    try:
        app()
    except VouchError as error:
        print(f"error: {error.message}", file=sys.stderr)
        sys.exit(error.exit_code)
