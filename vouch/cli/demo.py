"""``vouch demo``: the whole loop once, on a fresh system."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Annotated

import typer

import vouch
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
    program, environment = _program()
    os.execve(sys.executable, [sys.executable, "-m", program, *arguments], environment)  # noqa: S606 - no shell


def _program() -> tuple[str, dict[str, str]]:
    """The module to run, and its environment. The one of a checkout, which no package holds, has more models."""
    root = Path(vouch.__file__).parents[1]
    if not (root / "benchmarks" / "demo.py").is_file():
        return "training.demo", dict(os.environ)
    paths = filter(None, (str(root), os.environ.get("PYTHONPATH")))
    return "benchmarks.demo", {**os.environ, "PYTHONPATH": os.pathsep.join(paths)}
