"""``vouch runs``: list, watch and cancel training runs."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.text import Text

from vouch.cli import render
from vouch.cli.figures import figures_table, image_sheet
from vouch.cli.session import Session, command
from vouch.recipes import RECIPES, flat
from vouch.storage.state import StateFolder

if TYPE_CHECKING:
    from vouch.types.run import Run

app = typer.Typer(help="List, watch and cancel training runs.", no_args_is_help=True)

RunArgument = Annotated[str, typer.Argument(help="Id of the run, such as align-2.")]
_COLOURS = {"SUCCEEDED": "green", "FAILED": "red", "CANCELLED": "yellow", "RUNNING": "cyan"}
FAILED = 1


@command(
    app,
    "list",
    """
    vouch runs list
    vouch runs list --kind align --json
    """,
)
def list_runs(
    session: Session,
    kind: Annotated[str, typer.Option(help=f"{', '.join(RECIPES)}. Default: every kind.")] = "",
    status: Annotated[
        str, typer.Option(help="queued, running, succeeded, failed or cancelled. Default: every state.")
    ] = "",
    limit: Annotated[int, typer.Option(min=1, help="Maximum number of runs.")] = 20,
) -> None:
    """List training runs, newest first."""
    with session.connect() as client:
        runs = list(client.list_runs(kind=kind, state=status, limit=limit))
    columns = ("run", "kind", "state", "#step", "message", "version", "updated")
    session.emit({"runs": runs}, lambda: render.table(columns, map(_row, runs), empty="No runs yet."))


def _row(run: Run) -> tuple[str | Text, ...]:
    return (
        run.run_id,
        run.kind,
        _state(run),
        f"{run.step}/{run.total_steps}" if run.total_steps else str(run.step),
        run.error or run.message,
        run.version_name,
        render.ago(run.updated_at or run.created_at),
    )


@command(app, "show", "vouch runs show align-2 --json")
def show(session: Session, run: RunArgument) -> None:
    """Show one run: its settings, state and figures."""
    with session.connect() as client:
        record = client.get_run(run)
    session.emit(record, lambda: view(record, state_folder(session)))


@command(app, "cancel", "vouch runs cancel align-2")
def cancel(session: Session, run: RunArgument) -> None:
    """Cancel a queued or running run. Versions that it published are kept."""
    with session.connect() as client:
        record = client.cancel_run(run)
    session.emit(record, lambda: view(record, state_folder(session)))


@command(app, "watch", "vouch runs watch align-2")
def watch(session: Session, run: RunArgument) -> None:
    """Show a run's progress until it ends; exit code 1 if it fails. With --json one line per change."""
    with session.connect() as client:
        last = follow(client.watch_run(run), print_lines=session.as_json)
    if last is not None and not session.as_json:
        render.stdout().print(view(last, state_folder(session)))
    end_with(last)


def follow(changes: Iterator[Run], print_lines: bool = False) -> Run | None:
    """Shows a progress bar (or prints JSON lines) while a run changes; returns its last state."""
    last: Run | None = None
    with render.progress("steps", hidden=print_lines) as bar:
        task = bar.add_task("queued", total=None)
        for last in changes:
            if print_lines:
                render.print_json(last)
            bar.update(task, total=last.total_steps or None, completed=last.step, description=_describe(last))
    return last


def end_with(run: Run | None) -> None:
    """Exits with an error unless the run succeeded."""
    if run is None or run.state == "SUCCEEDED":
        return
    message = run.error or f"The run {run.run_id} was {run.state.lower()}."
    render.stderr().print(f"[red]error:[/red] {render.escape(message)}", highlight=False)
    raise typer.Exit(FAILED)


def _describe(run: Run) -> str:
    figures = " ".join(f"{name} {value:.4g}" for name, value in list(run.metrics.items())[:3])
    return "  ".join(part for part in (run.run_id, run.message or run.state.lower(), figures) if part)


def _state(run: Run) -> Text:
    return Text(run.state, style=_COLOURS.get(run.state, ""))


def state_folder(session: Session) -> StateFolder | None:
    """The state folder of the system; None if the system was named by its address."""
    return None if session.address else StateFolder(session.state or Path("state"))


def view(run: Run, state: StateFolder | None = None) -> Any:
    """One run in full. state: where its image sheet may be."""
    return render.facts(
        {
            "run": f"{run.run_id} ({run.kind})",
            "state": _state(run),
            "step": f"{run.step} of {run.total_steps}" if run.total_steps else "",
            "message": run.message,
            "error": run.error,
            "version": f"{run.version_name}  {render.digest(run.version)}" if run.version else "",
            "attempts": run.attempt if run.attempt > 1 else "",
            "settings": ", ".join(f"{name}={value}" for name, value in flat(run.config).items()),
            "figures": figures_table(run.kind, run.metrics),
            "images": (image_sheet(state.run(run.run_id)) or "") if state else "",
            "next": f"vouch rollout start {run.version_name}" if run.version_name else "",
        }
    )
