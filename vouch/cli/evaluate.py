"""``vouch evaluate``: what a version draws, in figures and pictures."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Annotated

import typer

from vouch.cli.session import Session, command
from vouch.errors import InvalidInput

OFFLINE = "training"

app = typer.Typer()


@command(
    app,
    "evaluate",
    """
    vouch evaluate generator-1 --against starter-generator --data cells/test.parquet
    vouch evaluate generator-1 --data cells/test.parquet --train cells/train.parquet --out evidence/generator-1
    vouch evaluate generator-1 --against starter-generator --data cells/test.parquet --features models/dinov2-small
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
        str, typer.Option(help="Version to compare with, on the same prompts and seeds.")
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
    domain: Annotated[
        str,
        typer.Option(
            envvar="VOUCH_DOMAIN",
            help="A shipped domain, or the folder of another one. Default: the system's.",
        ),
    ] = "",
    symmetric: Annotated[
        bool | None,
        typer.Option(
            help="Flips and quarter turns show the same thing, as of cells but not of chests.",
            show_default="what the domain says",
        ),
    ] = None,
    downstream: Annotated[
        bool,
        typer.Option(
            "--downstream",
            help="Also train classifiers on the images: minutes, and it needs --train.",
        ),
    ] = False,
    out: Annotated[Path, typer.Option(help="Folder for evidence.json and report.html.")] = Path("evidence"),
    per_class: Annotated[int, typer.Option(help="Images of each class.", min=2)] = 50,
) -> None:
    """Measure what a generator draws, alone or against another, and write a page with pictures.

    Draws from the versions in the state folder; the system need not run. The same command again goes on where it was
    interrupted. With --against it also says whether the version may take that one's place. What was found is kept
    with the version: `vouch versions VERSION` shows it.
    """
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
        "--domain": domain,
    }
    state = session.state or Path(os.environ.get("VOUCH_STATE", "state"))
    arguments = ["evaluate", version, "--state", str(state), "--set", f"per_class={per_class}"]
    for name, value in options.items():
        arguments += [name, str(value)] if value else []
    for folder in features:
        arguments += ["--features", str(folder)]
    arguments += ["--downstream"] if downstream else []
    if symmetric is not None:
        arguments += ["--symmetric"] if symmetric else ["--no-symmetric"]
    os.execv(sys.executable, [sys.executable, "-m", OFFLINE, *arguments])  # noqa: S606 - no shell
