"""The data check, and an adaptation outside of a system, on the command line."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

from training.adaptation.check import check_data
from training.adaptation.images import ReadOptions
from vouch import recipes
from vouch.cli import render
from vouch.datasets.imagesets import open_image_set
from vouch.domains.criteria import Domain
from vouch.errors import InvalidInput
from vouch.formats.intensity import IntensityWindow
from vouch.models.folders import check_base_folder


def check(
    data: Path, domain: Domain, size: int | None, window: str, accept: Collection[str], as_json: bool
) -> int:
    """Prints the report, as JSON or for people, and returns the exit code."""
    reading = ReadOptions(domain, IntensityWindow.parse(window) if window else None)
    with render.progress() as bar:
        task = bar.add_task("looking", total=open_image_set(data).count())
        report = check_data(data, reading, size, accept, lambda done: bar.update(task, completed=done))
    if as_json:
        render.print_json(report.as_json())
    else:
        render.stdout().print(report.view())
    return report.exit_code


def settings_of(
    base: Path | None, out: Path | None, given: Mapping[str, Any], settings: Mapping[str, Any], domain: Domain
) -> dict[str, Any]:
    """The settings of an adaptation from folder to folder, checked.

    Raises:
        InvalidInput: no base, no place for the result, or a setting that there is not.
    """
    if base is None or out is None:
        raise InvalidInput(
            "Adapting outside of a running system reads and writes folders: name them with --base FOLDER and "
            "--out FOLDER."
        )
    asked = {name: str(value) if isinstance(value, Path) else value for name, value in given.items() if value}
    asked["data"] = str(Path(asked["data"]).resolve())
    _, recipe = recipes.parse("adapt", {**asked, **settings, "base": str(check_base_folder(base))}, domain)
    return {**recipe.model_dump(mode="json", exclude_unset=True), "out": str(out.resolve())}
