"""``vouch adapt``: what a data set is worth for adapting a generator to it."""

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
    "adapt",
    """
    vouch adapt --check-only --data chests/
    vouch adapt --check-only --data study.parquet --domain chest_xray --size 224
    vouch adapt --check-only --data dicom/ --window=-1000:400 --json
    """,
)
def adapt(
    session: Session,
    data: Annotated[
        Path,
        typer.Option(
            help="Captioned images: a folder (metadata.csv or .jsonl, class folders, DICOM), WebDataset or Parquet.",
            exists=True,
        ),
    ],
    check_only: Annotated[
        bool, typer.Option("--check-only", help="Look at the data and train nothing.")
    ] = False,
    domain: Annotated[
        str,
        typer.Option(
            envvar="VOUCH_DOMAIN",
            help="A shipped domain, or the folder of another one. Default: the system's.",
        ),
    ] = "",
    size: Annotated[
        int | None, typer.Option(help="Pixels a side that training will use.", min=8, max=4096)
    ] = None,
    window: Annotated[
        str,
        typer.Option(
            help="Values that are black and white in DICOM files, after rescaling. Default: each file's first window.",
            metavar="LOW:HIGH",
        ),
    ] = "",
    accept: Annotated[
        list[str], typer.Option(help="Code of an error that shall only be warned of. Repeatable.")
    ] = [],  # noqa: B006
) -> None:
    """Check a set of captioned images before a generator is adapted to it.

    Reports unreadable files, duplicates, leakage between splits and patients, captions that never vary, tinted grey,
    the spread of sizes and too few images. Nothing is edited or deleted, and nothing that is printed names a patient.
    Ends with 0 where training may begin, and with 2 where an error was found.
    """
    if not check_only:
        raise InvalidInput("Adapting is not there yet: give --check-only to look at the data.")
    arguments = ["adapt", "--data", str(data), "--check-only"]
    for name, value in {"--domain": domain, "--size": size, "--window": window}.items():
        arguments += [f"{name}={value}"] if value else []
    for code in accept:
        arguments += ["--accept", code]
    arguments += ["--json"] if session.as_json else []
    os.execv(sys.executable, [sys.executable, "-m", OFFLINE, *arguments])  # noqa: S606 - no shell
