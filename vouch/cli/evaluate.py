"""``vouch evaluate``: what a version draws, in figures and pictures."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Annotated

import typer

from vouch.cli.session import Session, command

OFFLINE = "training"

app = typer.Typer()


@command(
    app,
    "evaluate",
    """
    vouch evaluate generator-1 --against starter-generator --data cells/test.parquet
    vouch evaluate generator-1 --data cells/test.parquet --train cells/train.parquet --out evidence/generator-1
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
    out: Annotated[Path, typer.Option(help="Folder for evidence.json and report.html.")] = Path("evidence"),
    per_class: Annotated[int, typer.Option(help="Images of each class.", min=2)] = 50,
) -> None:
    """Measure what a generator draws, alone or against another, and write a page with pictures.

    Draws from the versions in the state folder; the system need not run. The same command again goes on where it was
    interrupted.
    """
    options = {"--data": data, "--against": against, "--train": train, "--judge": judge, "--out": out}
    state = session.state or Path(os.environ.get("VOUCH_STATE", "state"))
    arguments = ["evaluate", version, "--state", str(state), "--set", f"per_class={per_class}"]
    for name, value in options.items():
        arguments += [name, str(value)] if value else []
    os.execv(sys.executable, [sys.executable, "-m", OFFLINE, *arguments])  # noqa: S606 - no shell
