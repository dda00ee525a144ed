"""A report of `benchmarks.alignment` as pictures.

python -m benchmarks.alignment.plots benchmarks/reports/alignment.json     # writes alignment-*.svg beside it
"""

from __future__ import annotations

import argparse
import json
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import matplotlib

matplotlib.use("svg")
matplotlib.rcParams.update(
    {"svg.hashsalt": "vouch", "font.size": 9, "axes.spines.top": False, "axes.spines.right": False}
)

from matplotlib.axes import Axes  # noqa: E402 - after the backend has been chosen
from matplotlib.figure import Figure as Picture  # noqa: E402

Figures = Mapping[str, Mapping[str, Any]]
INK, OURS, LIMIT = "#33414d", "#0b7285", "#c92a2a"
REAL = "real_plausible"
WITHOUT_TRAINING = ("starter", "rejection_sampling", "ensemble_guidance")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("report", type=Path)
    for path in plot(parser.parse_args().report):
        print(path)


def plot(report: Path) -> list[Path]:
    """One SVG beside the report for each part that it holds."""
    figures = json.loads(report.read_text("utf-8"))["figures"]
    drawn = {name: draw(figures) for name, draw in PICTURES.items()}
    written = []
    for name, picture in drawn.items():
        if picture is not None:
            path = report.with_name(f"{report.stem}-{name}.svg")
            picture.savefig(path, metadata={"Date": None})
            written.append(path)
    return written


def methods(figures: Figures) -> Picture | None:
    """How many images of each method the judge finds plausible, a dot for each seed, between starter and real."""
    rates = {name: one for name, one in figures.items() if name.endswith("_plausible") and name != REAL}
    found: dict[str, list[Mapping[str, Any]]] = {}
    for name, figure in rates.items():
        found.setdefault(re.sub(r"(_\d+)?_plausible$", "", name), []).append(figure)
    trained = [name for name in found if f"{name}_gain_points" in figures]
    shown = [name for name in WITHOUT_TRAINING if name in found and name not in trained] + sorted(
        trained, key=lambda name: figures[f"{name}_gain_points"]["value"]
    )
    if "starter" not in found or not trained:
        return None
    picture, axes = _picture(0.32 * len(shown) + 1.1)
    for row, name in enumerate(shown):
        for place, figure in enumerate(found[name]):
            _dot(axes, figure, row + 0.18 * (place - (len(found[name]) - 1) / 2), "0.6" if row == 0 else OURS)
    if REAL in figures:
        _line(axes, figures[REAL]["value"], "real, unseen cells")
    _line(axes, figures["starter_plausible"]["value"], "starter")
    axes.set_yticks(range(len(shown)), [name.replace("_", " ") for name in shown])
    axes.set_xlabel("share of images that the judge finds plausible, a dot for each seed (95 %)")
    return picture


def queue(figures: Figures) -> Picture | None:
    """AUROC of the reward against the number of ratings, by who chose what is rated."""
    ways: dict[str, list[tuple[int, float]]] = {}
    for name, figure in figures.items():
        if match := re.fullmatch(r"(\w+)_auroc_noisy_at_(\d+)", name):
            ways.setdefault(match[1], []).append((int(match[2]), figure["value"]))
    if not ways:
        return None
    picture, axes = _picture(3.2)
    for name, places in ways.items():
        style = {"color": OURS, "lw": 2} if name == "queue" else {"lw": 1, "color": INK, "ls": "--"}
        axes.plot(*zip(*sorted(places), strict=True), marker="o", ms=3, label=name, **style)
    axes.set_xlabel("ratings")
    axes.set_ylabel("AUROC on held-out ratings")
    axes.legend(frameon=False)
    return picture


PICTURES: dict[str, Callable[[Figures], Picture | None]] = {"methods": methods, "queue": queue}


def _picture(height: float) -> tuple[Picture, Axes]:
    picture = Picture(figsize=(7.5, height), layout="constrained")
    return picture, picture.add_subplot()


def _dot(axes: Axes, figure: Mapping[str, Any], row: float, color: str) -> None:
    axes.plot(figure["value"], row, "o", ms=4, color=color)
    if figure["low"] is not None and figure["high"] is not None:
        axes.plot([figure["low"], figure["high"]], [row, row], lw=1, color=color)


def _line(axes: Axes, value: float, name: str) -> None:
    axes.axvline(value, color=LIMIT, lw=0.8, ls=":")
    axes.annotate(
        name, (value, 1.0), xycoords=("data", "axes fraction"), ha="center", va="bottom", color=LIMIT
    )


if __name__ == "__main__":
    main()
