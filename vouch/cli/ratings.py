"""``vouch ratings``: list, export and import ratings."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.text import Text

from vouch.cli import render
from vouch.cli.session import Session, command

if TYPE_CHECKING:
    from vouch.types.rating import ImportRatingsResponse, Rating

app = typer.Typer(help="List, export and import experts' ratings.", no_args_is_help=True)

KindOption = Annotated[str, typer.Option(help="human or simulated. Default: both.")]
RaterOption = Annotated[str, typer.Option(help="Only ratings of this rater.")]


@command(
    app,
    "list",
    """
    vouch ratings list
    vouch ratings list --kind human --limit 20
    vouch ratings list --image 3f786850e387… --all --json
    """,
)
def list_ratings(
    session: Session,
    image: Annotated[str, typer.Option(help="Only ratings of the image with this digest.")] = "",
    rater: RaterOption = "",
    kind: KindOption = "",
    generator: Annotated[str, typer.Option(help="Only ratings of images of this generator.")] = "",
    limit: Annotated[int, typer.Option(min=1, help="Maximum number of ratings.")] = 50,
    superseded: Annotated[bool, typer.Option("--all", help="Include superseded ratings.")] = False,
) -> None:
    """List ratings, newest first. The column `kind` marks simulated ones."""
    with session.connect() as client:
        ratings = list(
            client.list_ratings(
                image_digest=image, rater=rater, kind=kind, generator_version=generator,
                include_superseded=superseded, limit=limit,
            )
        )  # fmt: skip
    columns = ("rating", "image", "verdict", "answers", "rater", "kind", "when")
    session.emit(
        {"ratings": ratings},
        lambda: render.table(columns, map(_row, ratings), empty="No ratings yet."),
    )


def _row(rating: Rating) -> tuple[str | Text, ...]:
    answers = ", ".join(f"{name} {answer}" for name, answer in rating.answers.items() if answer != "pass")
    return (
        render.digest(rating.id),
        render.digest(rating.image),
        Text(
            rating.verdict, style={"plausible": "green", "implausible": "red"}.get(rating.verdict, "yellow")
        ),
        answers or "all pass",
        rating.rater,
        Text(rating.kind, style="magenta" if rating.kind == "simulated" else ""),
        render.ago(rating.created_at),
    )


@command(
    app,
    "export",
    """
    vouch ratings export ratings.csv
    vouch ratings export ratings.parquet --kind human
    """,
)
def export(
    session: Session,
    file: Annotated[Path, typer.Argument(help=".csv or .parquet file; replaced if it exists.")],
    rater: RaterOption = "",
    kind: KindOption = "",
) -> None:
    """Write ratings to a file, including superseded ones. The column `kind` marks simulated ones."""
    from vouch.datasets.ratings import write_ratings

    with session.connect() as client:
        newest_first = list(client.list_ratings(rater=rater, kind=kind, include_superseded=True))
    count = write_ratings(file, reversed(newest_first))
    session.emit({"ratings": count, "file": str(file)}, lambda: f"{count} ratings written to {file}")


@command(
    app,
    "import",
    """
    vouch ratings import ratings.csv
    vouch ratings import ratings.parquet --json
    """,
)
def import_(
    session: Session,
    file: Annotated[
        Path, typer.Argument(help=".csv or .parquet file in the format of `vouch ratings export`.")
    ],
) -> None:
    """Store the ratings of a file. Ratings that are stored already are skipped; the system must have the images."""
    from vouch.datasets.ratings import read_ratings

    numbered = read_ratings(file)
    with session.connect() as client:
        report = client.import_ratings(rating for _, rating in numbered)
    session.emit(report, lambda: _imported(report))
    if report.failed:
        _explain(report, [number for number, _ in numbered])
        raise typer.Exit(2)


def _imported(report: ImportRatingsResponse) -> str:
    return (
        f"{report.recorded} ratings added, {report.already_recorded} already there, {report.failed} refused"
    )


def _explain(report: ImportRatingsResponse, rows: list[int]) -> None:
    for failure in report.failures[:20]:
        row = rows[failure.index] if failure.index < len(rows) else failure.index + 1
        render.stderr().print(f"row {row}: {failure.message}", markup=False, highlight=False)
