"""The data check on the command line."""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path

from training.adaptation.check import check_data
from training.adaptation.images import Reading
from vouch.cli import render
from vouch.datasets.imagesets import open_image_set
from vouch.domains.criteria import Domain
from vouch.formats.intensity import IntensityWindow


def check(
    data: Path, domain: Domain, size: int | None, window: str, accept: Collection[str], as_json: bool
) -> int:
    """Prints the report, as JSON or for people, and returns the exit code."""
    reading = Reading(domain, IntensityWindow.parse(window) if window else None)
    with render.progress() as bar:
        task = bar.add_task("looking", total=open_image_set(data).count())
        report = check_data(data, reading, size, accept, lambda done: bar.update(task, completed=done))
    if as_json:
        render.print_json(report.as_json())
    else:
        render.stdout().print(report.view())
    return report.exit_code
