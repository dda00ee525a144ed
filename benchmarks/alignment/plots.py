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
WITHOUT_TRAINING = ("starter", "rejection_sampling", "ensemble_guidance")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("report", type=Path)
    for path in plot(parser.parse_args().report):
        print(path)


def plot(report: Path) -> list[Path]:
    """One SVG beside the report for each part that it holds."""
    figures = json.loads(report.read_text())["figures"]
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
    rates = {name: figure for name, figure in figures.items() if name.endswith("_plausible")}
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
    if "real_plausible" in figures and figures["real_plausible"]["value"] is not None:
        _line(axes, figures["real_plausible"]["value"], "real, unseen cells")
    _line(axes, figures["starter_plausible"]["value"], "starter")
    axes.set_yticks(range(len(shown)), [name.replace("_", " ") for name in shown])
    axes.set_xlabel("share of 512 images that the judge finds plausible, a dot for each seed (95 %)")
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


def asked(figures: Figures) -> Picture | None:
    """Every figure of which something is asked, by how far it is on the way from nothing to what it must reach."""
    bound = {
        name: figure for name, figure in figures.items() if figure["must"] and figure["value"] is not None
    }
    shown = {name: figure for name, figure in bound.items() if float(figure["must"].split()[1])}
    if not shown:
        return None
    picture, axes = _picture(0.3 * len(shown) + 1.1)
    for row, (_, figure) in enumerate(reversed(shown.items())):
        _against(axes, figure, row)
    axes.axvline(1.0, color=LIMIT, lw=1)
    axes.set_yticks(range(len(shown)), [_told(name, figure) for name, figure in reversed(shown.items())])
    axes.set_xlabel("measured ÷ must (95 %); the line is what must be reached")
    return picture


PICTURES: dict[str, Callable[[Figures], Picture | None]] = {
    "methods": methods,
    "queue": queue,
    "asked": asked,
}


def _against(axes: Axes, figure: Mapping[str, Any], row: int) -> None:
    sign, bound = figure["must"].split()
    met = figure["value"] >= float(bound) if sign == ">=" else figure["value"] <= float(bound)
    scaled = {
        key: None if figure[key] is None else figure[key] / float(bound) for key in ("value", "low", "high")
    }
    _dot(axes, scaled, row, OURS if met else LIMIT)


def _told(name: str, figure: Mapping[str, Any]) -> str:
    return f"{name.replace('_', ' ')}  {figure['must'].replace('<=', '≤').replace('>=', '≥')}"


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
