"""``vouch train``: new versions from ratings and data."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from typing import Annotated, Any

import typer

from vouch.cli import render, runs
from vouch.cli.session import INTERRUPTED, Session, command
from vouch.errors import InvalidInput, Unavailable

PRETRAIN = "training.pretrain"

app = typer.Typer(help="Train new versions from ratings and data.", no_args_is_help=True)

DataOption = Annotated[
    Path | None,
    typer.Option("--data", help="Parquet file, or folder of such, with real images.", exists=True),
]
DetachOption = Annotated[bool, typer.Option("--detach", help="Queue the run and return; do not wait for it.")]


@command(
    app,
    "pretrain",
    """
    vouch train pretrain --data cells/train.parquet
    vouch train pretrain --data cells/train.parquet --offline --out my-model/ --steps 2000
    """,
    any_options=True,
)
def pretrain(
    session: Session,
    context: typer.Context,
    data: DataOption = None,
    offline: Annotated[bool, typer.Option("--offline", help="Train here, without a running system.")] = False,
    detach: DetachOption = False,
) -> None:
    """Learn a generator from an image set with captions made from its labels and attributes.

    Any further --name value is a setting of the run. Without a running system the training happens in this
    process, as with --offline.
    """
    if not offline:
        try:
            _start(session, "pretrain", _config(context.args, data), detach)
            return
        except Unavailable as error:
            if session.address is not None:
                raise
            render.stderr().print(f"{render.escape(error.message)} Training here instead.", style="yellow")
    arguments = ["--data", str(data.resolve())] if data else []
    command_line = [sys.executable, "-m", PRETRAIN, *arguments, *context.args]
    os.execv(sys.executable, command_line)  # noqa: S606 - the user's own arguments, no shell


@command(
    app,
    "reward",
    """
    vouch train reward
    vouch train reward --data cells/train.parquet --simulated
    vouch train reward --steps 500 --detach
    """,
    any_options=True,
)
def reward(
    session: Session,
    context: typer.Context,
    data: DataOption = None,
    simulated: Annotated[bool, typer.Option("--simulated", help="Learn from simulated ratings too.")] = False,
    detach: DetachOption = False,
) -> None:
    """Learn a reward model from the ratings so far, and real images where --data gives some.

    Any further --name value is a setting of the run; an unknown one is refused before anything starts.
    """
    config = _config(context.args, data)
    if simulated:
        config["kinds"] = ["human", "simulated"]
    _start(session, "reward", config, detach)


@command(
    app,
    "align",
    """
    vouch train align
    vouch train align --method gradient --data cells/train.parquet
    vouch train align --generator generator-2 --reward reward-3 --detach
    """,
    any_options=True,
)
def align(
    session: Session, context: typer.Context, data: DataOption = None, detach: DetachOption = False
) -> None:
    """Fine-tune the generator against the reward model; publishes a LoRA version.

    Any further --name value is a setting of the run; an unknown one is refused before anything starts.
    """
    _start(session, "align", _config(context.args, data), detach)


@command(app, "evaluate", "vouch train evaluate --version generator-2", any_options=True)
def evaluate(
    session: Session, context: typer.Context, data: DataOption = None, detach: DetachOption = False
) -> None:
    """Measure a version by the judge. Any further --name value is a setting of the run."""
    _start(session, "evaluate", _config(context.args, data), detach)


def _start(session: Session, kind: str, config: dict[str, Any], detach: bool) -> None:
    with session.connect() as client:
        run = client.start_training(kind, config)
        last: Any = run
        if not detach:
            try:
                last = runs.follow(client.watch_run(run.run_id)) or run
            except KeyboardInterrupt:
                hint = f"{run.run_id} goes on. `vouch runs watch {run.run_id}` shows it, `vouch runs cancel` stops it."
                render.stderr().print(hint, highlight=False)
                raise typer.Exit(INTERRUPTED) from None
    session.emit(last, lambda: runs.view(last))
    if not detach:
        runs.end_with(last)


def _config(arguments: list[str], data: Path | None) -> dict[str, Any]:
    config: dict[str, Any] = {"data": str(data.resolve())} if data else {}
    return {**config, **parse_settings(arguments)}


def parse_settings(arguments: list[str]) -> dict[str, Any]:
    """``--steps 500 --method gradient --no-anchor --lr=1e-4`` as ``{"steps": 500, "method": "gradient", …}``."""
    settings: dict[str, Any] = {}
    left = list(arguments)
    while left:
        name, equals, value = left.pop(0).partition("=")
        if not name.startswith("--") or len(name) < 3:
            raise InvalidInput(f"{name!r} is not a setting. Settings are given as --name value.")
        key = name[2:].replace("-", "_")
        if not equals and (not left or left[0].startswith("--")):
            negated = key.startswith("no_")
            settings[key[3:] if negated else key] = not negated
        else:
            settings[key] = _value(value if equals else left.pop(0))
    return settings


def _value(text: str) -> Any:
    try:
        return json.loads(text)
    except ValueError:
        return text
