"""``vouch evaluate``: what a version draws, in figures and pictures."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Annotated

import typer

from vouch.cli.session import Session, command
from vouch.cli.train import DetachOption, start
from vouch.errors import InvalidInput

OFFLINE = "training"

app = typer.Typer()


@command(
    app,
    "evaluate",
    """
    vouch evaluate generator-1 --data cells/test.parquet
    vouch evaluate generator-1 --data cells/test.parquet --train cells/train.parquet --detach
    vouch evaluate generator-1 --offline --against starter-generator --data cells/test.parquet --out evidence
    """,
)
def evaluate(
    session: Session,
    version: Annotated[str, typer.Argument(help="Generator version: name, digest or prefix.")],
    data: Annotated[
        Path,
        typer.Option(
            help="Labelled real images that no model has seen: Parquet, tar or folder.", exists=True
        ),
    ],
    against: Annotated[
        str,
        typer.Option(help="Version to compare with, on the same prompts and seeds. Default: what serves."),
    ] = "",
    train: Annotated[
        Path | None,
        typer.Option(
            help="The images that it learned from; without them nothing is said of copies.", exists=True
        ),
    ] = None,
    judge: Annotated[
        Path | None,
        typer.Option(help="Folder of the judge. Default: the starter's, for blood cells.", exists=True),
    ] = None,
    features: Annotated[
        list[Path],
        typer.Option(
            help="Folder of a vision model of transformers, such as DINOv2: figures in its features too. Repeatable.",
            exists=True,
        ),
    ] = [],  # noqa: B006
    first: Annotated[
        str,
        typer.Option(
            help="The first champion, since which nothing may be lost. Default: the root of --against's lineage."
        ),
    ] = "",
    symmetric: Annotated[
        bool, typer.Option(help="Flips and quarter turns show the same thing, as of cells but not of chests.")
    ] = True,
    downstream: Annotated[
        bool,
        typer.Option(
            "--downstream",
            help="Also train classifiers on the images: minutes, and it needs --train.",
        ),
    ] = False,
    out: Annotated[
        Path, typer.Option(help="With --offline: folder for evidence.json and report.html.")
    ] = Path("evidence"),
    per_class: Annotated[int, typer.Option(help="Images of each class.", min=2)] = 50,
    offline: Annotated[
        bool, typer.Option("--offline", help="Here and now instead of as a job of the system.")
    ] = False,
    detach: DetachOption = False,
) -> None:
    """Measure what a generator draws beside what serves, and say whether it may take its place.

    A job of the system, like a training run; on its GPU where there is one. The verdict is kept with the version, where
    `vouch rollout start` reads it and `vouch versions VERSION` shows it.

    With --offline it draws here from the versions in the state folder, and the system need not run: --features and
    --out are for that alone, and without --against it is measured by itself. The same command again goes on where it
    was interrupted.
    """
    if not offline:
        if features:
            raise InvalidInput("--features names models of this machine: add --offline.")
        config = {"version": version, "against": against, "first": first, "data": data, "train": train}
        config |= {"judge": judge, "per_class": per_class}
        config["symmetric"] = None if symmetric else False
        config["downstream"] = downstream or None
        asked = {name: value for name, value in config.items() if value not in ("", None)}
        paths = {name: str(value) for name, value in asked.items() if isinstance(value, Path)}
        start(session, "evaluate", {**asked, **paths}, detach)
        return
    if downstream and train is None:
        raise InvalidInput("--downstream needs the real images to learn from: name them with --train.")
    if first and not against:
        raise InvalidInput("--first is the first champion of a comparison: name what serves with --against.")
    options = {
        "--data": data,
        "--against": against,
        "--first": first,
        "--train": train,
        "--judge": judge,
        "--out": out,
    }
    state = session.state or Path(os.environ.get("VOUCH_STATE", "state"))
    arguments = ["evaluate", version, "--state", str(state), "--set", f"per_class={per_class}"]
    for name, value in options.items():
        arguments += [name, str(value)] if value else []
    for folder in features:
        arguments += ["--features", str(folder)]
    arguments += ["--downstream"] if downstream else []
    arguments += [] if symmetric else ["--no-symmetric"]
    os.execv(sys.executable, [sys.executable, "-m", OFFLINE, *arguments])  # noqa: S606 - no shell
