"""From the figures of the cells to those of the report."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from benchmarks.adaptation.experiment import BASE, Figures
from benchmarks.adaptation.ladder import SCRATCH, Ladder
from benchmarks.adaptation.measures import distance_closed
from benchmarks.report import Figure, Report

JUDGE = "convolutional"
TOLD = {
    "colour_leak": ("of 255", "<= 1", "<= 0.2"),
    "copies": ("share", None, None),
    "validation_loss": ("", None, None),
    f"{JUDGE}_finding_agreement_points": ("points", None, None),
    f"{JUDGE}_finding_logit_distance": ("", None, None),
    f"{JUDGE}_coverage_of_floor": ("share", None, None),
    f"{JUDGE}_recognised_trained": ("share", None, None),
    f"{JUDGE}_recognised_held_out": ("share", None, None),
    f"{JUDGE}_recognised_negation": ("share", None, None),
    "probe_finding_agreement_points": ("points", None, None),
    "probe_finding_logit_distance": ("", None, None),
    "recognised_no_copies": ("share", None, None),
    "seconds": ("s", None, None),
}
"""What is told of each cell: unit, must, aim."""


def summarised(ladder: Ladder, results: Mapping[str, Figures]) -> Report:
    """A report of everything that was measured on a ladder; the mean of the seeds, with their range as bounds."""
    report = Report(f"adaptation-{ladder}")
    own = {name: figures for name, figures in results.items() if name.startswith(f"{ladder}/")}
    base = own.pop(f"{ladder}/{BASE}", {})
    if (value := base.get("colour_leak")) is not None:
        report.add(f"{ladder}_base_colour_leak", Figure(value, "of 255"))
    groups: dict[str, list[Figures]] = {}
    for name, figures in own.items():
        groups.setdefault(name.rpartition("/")[0], []).append(figures)
    for group, seeds in sorted(groups.items()):
        _tell(report, group.replace("/", "_").replace("-", "_"), seeds, base)
    for size in sorted({group.rpartition("/")[2] for group in groups}):
        _tell_prior(report, ladder, size, groups)
    return report


def _tell(report: Report, name: str, seeds: Sequence[Figures], base: Figures) -> None:
    for figure, (unit, must, aim) in TOLD.items():
        if values := [one[figure] for one in seeds if one.get(figure) is not None]:
            report.add(f"{name}_{figure}", _over(values, unit, must, aim))  # type: ignore[arg-type]
    closed = [_closed(one, base) for one in seeds]
    if known := [value for value in closed if value is not None]:
        report.add(f"{name}_distance_closed", _over(known, "share"))
    kept = [_share(one.get("known_recognised"), base.get("known_recognised")) for one in seeds]
    if known := [value for value in kept if value is not None]:
        report.add(f"{name}_kept_after_adapting", _over(known, "share", ">= 0.95", ">= 1"))
    unseen = [_ratio(one, "held_out", "trained") for one in seeds]
    if known := [value for value in unseen if value is not None]:
        report.add(f"{name}_unseen_wording_of_seen", _over(known, "share", ">= 0.9", ">= 1"))


def _tell_prior(report: Report, ladder: str, size: str, groups: Mapping[str, Sequence[Figures]]) -> None:
    """What the base brought: the best adapted U-Net beside a training from nothing, at equal compute."""
    scratch = groups.get(f"{ladder}/{SCRATCH}/{size}")
    adapted = [seeds for group, seeds in groups.items() if group.endswith(f"/{size}") and "/unet" in group]
    if not scratch or not adapted:
        return
    figure = f"{JUDGE}_recognised_trained"
    best = max(_mean(seeds, figure) for seeds in adapted)
    gain = 100 * (best - _mean(scratch, figure))
    report.add(f"{ladder}_prior_gain_points_{size}", Figure(gain, "points"))


def _closed(one: Figures, base: Figures) -> float | None:
    values = [base.get(f"{JUDGE}_fid"), one.get(f"{JUDGE}_fid"), one.get(f"{JUDGE}_fid_real")]
    return None if None in values else distance_closed(*values)  # type: ignore[arg-type]


def _ratio(one: Figures, above: str, below: str) -> float | None:
    return _share(*(one.get(f"{JUDGE}_recognised_{kind}") for kind in (above, below)))


def _share(top: float | None, bottom: float | None) -> float | None:
    return None if top is None or not bottom else top / bottom


def _mean(seeds: Sequence[Figures], figure: str) -> float:
    return float(np.mean([one[figure] for one in seeds]))


def _over(values: Sequence[float], unit: str, must: str | None = None, aim: str | None = None) -> Figure:
    """The mean of the seeds. Few seeds have no interval: the bounds are the least and the greatest."""
    low, high = (min(values), max(values)) if len(values) > 1 else (None, None)
    return Figure(float(np.mean(values)), unit, low, high, must, aim)
