"""``vouch demo``: the whole loop once, on a fresh system."""

from __future__ import annotations

import os
import sys
from importlib.util import find_spec
from pathlib import Path
from typing import Annotated

import typer

from vouch.cli.session import Session, command
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
        str, typer.Option(envvar="VOUCH_DOMAIN", help="Name of a shipped domain, or folder of a custom one.")
    ] = "blood_cells",
    models: Annotated[
        Path | None,
        typer.Option(
            help="Folder with generator, reward, rater and judge of the domain; `python -m training models` makes one.",
            show_default="those that ship: blood cells; in a checkout also the domains in benchmarks/adaptation",
        ),
    ] = None,
    once: Annotated[bool, typer.Option("--once", help="Stop the system when the report is written.")] = False,
) -> None:
    """Run the whole loop once on a fresh system: generate, rate (simulated), train, align, roll out, compare.

    The system has its own state folder (--state, by default state/demo).
    """
    require("train")
    given = {"--domain": domain, "--models": models, "--state": session.state}
    arguments = [word for name, value in given.items() if value for word in (name, str(value))]
    arguments += ["--once"] if once else []
    program = "benchmarks.demo" if find_spec("benchmarks") else "training.demo"  # a checkout has more models
    os.execv(sys.executable, [sys.executable, "-m", program, *arguments])  # noqa: S606 - no shell
