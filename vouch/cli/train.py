"""``vouch train``: train new versions on ratings and data."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from typing import Annotated, Any

import typer

from vouch import recipes
from vouch.cli import render, runs
from vouch.cli.run_settings import parse_settings, settings_help
from vouch.cli.session import INTERRUPTED, Session, command
from vouch.errors import InvalidInput, Unavailable
from vouch.extras import require

OFFLINE = "training"
"""`python -m training pretrain` trains without a running system."""

app = typer.Typer(help="Train new versions on ratings and data.", no_args_is_help=True)

DataOption = Annotated[
    Path | None,
    typer.Option("--data", help="Labelled real images of the training split: Parquet, tar or folder."),
]
DetachOption = Annotated[
    bool, typer.Option("--detach", help="Queue the run and return without waiting for it.")
]
SimulatedOption = Annotated[bool, typer.Option("--simulated", help="Train on simulated ratings too.")]


@command(
    app,
    "pretrain",
    """
    vouch train pretrain --data cells/train.parquet
    vouch train pretrain --data cells/train.parquet --offline --out my-model --minutes 60
    """,
    any_options=True,
    more_help=settings_help("pretrain"),
)
def pretrain(
    session: Session,
    context: typer.Context,
    data: DataOption = None,
    offline: Annotated[
        bool, typer.Option("--offline", help="Train in this process, without a running system.")
    ] = False,
    out: Annotated[Path | None, typer.Option(help="With --offline: diffusers folder for the result.")] = None,
    detach: DetachOption = False,
) -> None:
    """Train a generator on an image set, with captions from its labels and attributes.

    Without a running system the training runs in this process, as with --offline, and writes a plain diffusers folder
    that `vouch up --generator FOLDER` serves.
    """
    if data is None:
        raise InvalidInput("Pre-training needs labelled real images: give them with --data train.parquet.")
    settings = parse_settings(context.args)
    if not offline:
        try:
            start(session, "pretrain", {"data": str(data), **settings}, detach)
            return
        except Unavailable as error:
            if session.address is not None or detach:
                raise
            render.stderr().print(f"{render.escape(error.message)} Training here instead.", style="yellow")
    _train_here(session, data, out, settings)


def _train_here(session: Session, data: Path, out: Path | None, settings: dict[str, Any]) -> None:
    if out is None:
        raise InvalidInput("Training without a system writes a folder: give it with --out FOLDER.")
    require("train")
    arguments = ["pretrain", "--data", str(data), "--out", str(out), *(["--json"] if session.as_json else [])]
    for name in ("run_dir", "workers"):
        if name in settings:
            arguments += [f"--{name.replace('_', '-')}", str(settings.pop(name))]
    for name, value in recipes.flat(settings).items():
        arguments += ["--set", f"{name}={value if isinstance(value, str) else json.dumps(value)}"]
    os.execv(sys.executable, [sys.executable, "-m", OFFLINE, *arguments])  # noqa: S606 - no shell


@command(
    app,
    "reward",
    """
    vouch train reward
    vouch train reward --data cells/train.parquet --simulated
    vouch train reward --steps 500 --detach
    """,
    any_options=True,
    more_help=settings_help("reward"),
)
def reward(
    session: Session,
    context: typer.Context,
    data: DataOption = None,
    simulated: SimulatedOption = False,
    detach: DetachOption = False,
) -> None:
    """Train a reward model on the ratings so far, and on the real images of --data if given."""
    start(session, "reward", _config(context.args, data, simulated), detach)


@command(
    app,
    "align",
    """
    vouch train align
    vouch train align --method nft --set nft.beta=0.1 --nft.groups 4
    vouch train align --generator generator-2 --reward reward-3 --minutes 10 --detach
    """,
    any_options=True,
    more_help=settings_help("align"),
)
def align(
    session: Session,
    context: typer.Context,
    data: DataOption = None,
    simulated: SimulatedOption = False,
    detach: DetachOption = False,
) -> None:
    """Fine-tune the generator against the reward model; publishes a LoRA version."""
    start(session, "align", _config(context.args, data, simulated), detach)


def start(session: Session, kind: str, config: dict[str, Any], detach: bool) -> None:
    for name in recipes.path_settings(kind):
        if isinstance(config.get(name), str):
            config[name] = _resolved_path(session, name, config[name])
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
    session.emit(last, lambda: runs.view(last, runs.state_folder(session)))
    if not detach:
        runs.end_with(last)


def _resolved_path(session: Session, name: str, path: str) -> str:
    """The absolute path if it exists here. A system named by its address may have it in its own data folder."""
    if Path(path).exists():
        return str(Path(path).resolve())
    if session.address is None:
        raise InvalidInput(f"--{name} {path}: there is no such file or folder.")
    return path


def _config(arguments: list[str], data: Path | None, simulated: bool) -> dict[str, Any]:
    config: dict[str, Any] = {"data": str(data)} if data else {}
    if simulated:
        config["kinds"] = ["human", "simulated"]
    return {**config, **parse_settings(arguments)}
