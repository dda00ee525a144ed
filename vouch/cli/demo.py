"""``vouch demo``: the whole loop once, on a system of its own."""

from __future__ import annotations

import os
import sys
from importlib.util import find_spec
from pathlib import Path
from typing import Annotated

import typer

from vouch.cli.session import Session, command
from vouch.errors import FailedPrecondition
from vouch.extras import require

app = typer.Typer()


@command(
    app,
    "demo",
    """
    vouch demo
    vouch demo --domain chest_xray --models models/chest_xray --once
    """,
)
def demo(
    session: Session,
    domain: Annotated[
        str, typer.Option(envvar="VOUCH_DOMAIN", help="A shipped domain, or the folder of another one.")
    ] = "blood_cells",
    models: Annotated[
        Path | None,
        typer.Option(
            help="Folder of its generator, reward, rater and judge; `python -m training models` makes one.",
            show_default="those of the checkout: of blood cells, and of domains in benchmarks/adaptation",
        ),
    ] = None,
    once: Annotated[bool, typer.Option("--once", help="End when the report is written.")] = False,
) -> None:
    """Draw, let simulated experts rate, learn, align, gate, swap under traffic, and compare before with after.

    It starts a system on a fresh state folder (--state, by default state/demo). The loop is a benchmark: it needs a
    checkout of vouch.
    """
    require("train")
    if find_spec("benchmarks") is None:
        raise FailedPrecondition(
            "The demo is part of vouch's checkout: run it in that folder.", "NO_CHECKOUT"
        )
    given = {"--domain": domain, "--models": models, "--state": session.state}
    arguments = [word for name, value in given.items() if value for word in (name, str(value))]
    arguments += ["--once"] if once else []
    os.execv(sys.executable, [sys.executable, "-m", "benchmarks.demo", *arguments])  # noqa: S606 - no shell
