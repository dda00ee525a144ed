"""The root command with all commands."""

from __future__ import annotations

from typing import Annotated

import typer

from vouch import __version__
from vouch.cli import (
    adapt,
    audit,
    backup,
    concept,
    demo,
    evaluate,
    gc,
    generate,
    logs,
    lora,
    rate,
    ratings,
    replay,
    review,
    reward,
    rollout,
    runs,
    score,
    status,
    token,
    train,
    up,
    versions,
)
from vouch.cli import filter as filter_
from vouch.cli.session import EXIT_CODES

root = typer.Typer(
    name="vouch",
    help="Synthetic medical images that experts vouch for: generate, score, rate, retrain, roll out.",
    epilog=f"Exit codes: {EXIT_CODES}. VOUCH_DEBUG=1 shows tracebacks.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["--help", "-h"]},
)


def _print_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"vouch {__version__}")
        raise typer.Exit


@root.callback()
def _options(
    version: Annotated[
        bool,
        typer.Option("--version", callback=_print_version, is_eager=True, help="Print the version and exit."),
    ] = False,
) -> None:
    pass


# In the order of an image's life cycle, which is also the order of --help.
for single in (up, status, logs, generate, score, filter_, rate):
    root.add_typer(single.app)
root.add_typer(review.app, name="review")
root.add_typer(ratings.app, name="ratings")
root.add_typer(train.app, name="train")
root.add_typer(adapt.app)
root.add_typer(concept.app, name="concept")
root.add_typer(runs.app, name="runs")
root.add_typer(versions.app)
root.add_typer(lora.app, name="lora")
root.add_typer(evaluate.app)
root.add_typer(reward.app, name="reward")
root.add_typer(rollout.app, name="rollout")
root.add_typer(replay.app)
root.add_typer(audit.app, name="audit")
root.add_typer(token.app, name="token")
root.add_typer(backup.app)
root.add_typer(gc.app)
root.add_typer(demo.app)
