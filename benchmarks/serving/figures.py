"""The report: vouch over the best of the others, and everything behind it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from rich.table import Table

from benchmarks.report import Figure, Report
from benchmarks.serving import page
from benchmarks.serving.contenders import Setting
from benchmarks.serving.runs import SATURATION, Answer, ServingRun, name_of
from benchmarks.serving.scores import (
    SLICES,
    good_images,
    image_steps,
    images,
    latencies,
    percentile,
    rate,
    rates,
)
from training.evaluation.intervals import bootstrap_ratio

VOUCH = "vouch"  # computes as the peers do
COMPILED = "vouch_compiled"  # as it comes
OURS = (VOUCH, COMPILED)
CALM = name_of(0.6)  # the load at which latencies are compared
BATCH, ADMISSION, WAIT = (
    f"vouch_engine_{what}" for what in ("batch_images", "admission_steps", "wait_seconds")
)
WAITS = {"bentoml": "max_latency"}  # what the seconds of a setting mean, where they are not a batch's wait
Windows = list[list[float]]


@dataclass(frozen=True)
class Results:
    """All runs of a session, and the bare limit of each repeat in image-steps per second."""

    runs: Sequence[ServingRun]
    bare: Sequence[float]

    def of(self, contender: str, load: str) -> list[ServingRun]:
        return [run for run in self.runs if (run.contender, run.load) == (contender, load)]

    @property
    def contenders(self) -> list[str]:
        return list(dict.fromkeys(run.contender for run in self.runs))

    @property
    def loads(self) -> list[str]:
        return list(dict.fromkeys(run.load for run in self.runs))

    @property
    def peers(self) -> list[str]:
        return [name for name in self.contenders if name not in OURS]

    def best_goodput(self, contender: str) -> list[ServingRun]:
        """Its runs under the load that suits it best."""
        loads = [self.of(contender, load) for load in self.loads]
        return max(loads, key=lambda runs: rate(runs, good_images) or 0.0)


def report_on(results: Results, settings: Mapping[str, Setting]) -> Report:
    report = Report("serving")
    served = COMPILED if COMPILED in results.contenders else VOUCH
    for name, figure in FIGURES.items():
        report.add(name, figure(results, served))
    for name, figure in FIGURES.items():  # the part of it that is serving, and not computing
        report.add(f"{name}_same_code", figure(results, VOUCH))
    report.add("admission_steps_p99", admission_steps(results, must="<= 2", aim="<= 1"))
    report.add("bare_limit", Figure(_mean(results.bare), unit="image-steps/s"))
    add_details(report, results, settings)
    return report


# ---- vouch over the others


def steps_of_limit(results: Results, ours: str) -> Figure:
    windows = _windows(results.of(ours, SATURATION), image_steps)
    return ratio(windows, [[limit] for limit in results.bare], np.mean, must=">= 0.85", aim=">= 0.95")


def goodput_vs_best_peer(results: Results, ours: str) -> Figure:
    def windows(contender: str) -> Windows:
        return _windows(results.best_goodput(contender), good_images)

    return _against_best(results, ours, windows, np.mean, max, must=">= 1.5", aim=">= 2.5")


def images_vs_best_peer(results: Results, ours: str) -> Figure:
    def windows(contender: str) -> Windows:
        return _windows(results.of(contender, SATURATION), images)

    return _against_best(results, ours, windows, np.mean, max, must=">= 1.15", aim=">= 1.5")


def p95_vs_best_peer(results: Results, ours: str) -> Figure:
    def windows(contender: str) -> Windows:
        runs = results.of(contender, CALM)
        return [list(part) for run in runs for part in np.array_split(latencies(run), SLICES) if len(part)]

    return _against_best(results, ours, windows, _p95, min, must="<= 0.6", aim="<= 0.3")


FIGURES: dict[str, Callable[[Results, str], Figure]] = {
    "steps_of_limit": steps_of_limit,
    "goodput_vs_best_peer": goodput_vs_best_peer,
    "images_vs_best_peer": images_vs_best_peer,
    "p95_vs_best_peer": p95_vs_best_peer,
}


def admission_steps(results: Results, **limits: str) -> Figure:
    """Steps that an image waited while there was a free slot for it, over all loads."""
    pages = page.added(run.page for run in results.runs if run.contender in OURS)
    return Figure(page.percentile(pages, ADMISSION, 99), unit="steps", **limits)


def _against_best(
    results: Results,
    ours: str,
    windows: Callable[[str], Windows],
    statistic: Callable[[np.ndarray], Any],
    choose: Callable[..., Windows],
    **limits: str,
) -> Figure:
    """vouch over the peer that `choose` (max or min) finds best by the same statistic."""
    peers = [found for found in map(windows, results.peers) if found]
    if not peers:
        return Figure(None, unit="ratio", **limits)
    return ratio(windows(ours), choose(peers, key=lambda found: _of(found, statistic)), statistic, **limits)


def ratio(above: Windows, below: Windows, statistic: Callable[[np.ndarray], Any], **limits: str) -> Figure:
    """With an interval, unless one side of it could be nothing at all."""
    if not above or not below or not _of(below, statistic):
        return Figure(None, unit="ratio", **limits)
    low, high = None, None
    try:
        low, high = bootstrap_ratio(above, below, statistic)
    except ZeroDivisionError:
        pass  # some resampled runs of the lower side held nothing: the value stands, without bounds
    return Figure(_of(above, statistic) / _of(below, statistic), "ratio", low, high, **limits)


def _windows(runs: Sequence[ServingRun], worth: Callable[[Answer], float]) -> Windows:
    return [[part] for run in runs for part in rates(run, worth)]


def _of(windows: Windows, statistic: Callable[[np.ndarray], Any]) -> float:
    return float(statistic(np.concatenate(windows)))


def _p95(seconds: np.ndarray) -> float:
    return float(np.percentile(seconds, 95))


def _mean(values: Sequence[float]) -> float | None:
    return float(np.mean(values)) if values else None


# ---- everything behind it


def numbers(runs: Sequence[ServingRun]) -> dict[str, tuple[float | None, str]]:
    """(value, unit) of one contender under one load."""
    return {
        "goodput": (rate(runs, good_images), "images/s"),
        "images": (rate(runs, images), "images/s"),
        "image_steps": (rate(runs, image_steps), "image-steps/s"),
        "p50": (percentile(runs, 50), "s"),
        "p95": (percentile(runs, 95), "s"),
        "p99": (percentile(runs, 99), "s"),
        "unanswered": (sum(run.unanswered for run in runs), "requests"),
    }


def engine_numbers(runs: Sequence[ServingRun]) -> dict[str, tuple[float | None, str]]:
    """What only vouch's page says."""
    pages = page.added(run.page for run in runs)
    return {
        "occupancy": (page.mean(pages, BATCH), "images/step"),
        "admission_steps_p99": (page.percentile(pages, ADMISSION, 99), "steps"),
        "engine_wait_mean": (page.mean(pages, WAIT), "s"),
    }


def add_details(report: Report, results: Results, settings: Mapping[str, Setting]) -> None:
    for contender in results.contenders:
        for load in results.loads:
            runs = results.of(contender, load)
            found = {**numbers(runs), **(engine_numbers(runs) if contender in OURS else {})}
            for name, (value, unit) in found.items():
                report.add(f"{contender}_{load}_{name}", Figure(value, unit=unit))
    for contender, setting in settings.items():
        report.add(f"{contender}_max_batch", Figure(setting.max_batch, unit="requests"))
        report.add(f"{contender}_{WAITS.get(contender, 'wait')}", Figure(setting.wait_s, unit="s"))


def table(results: Results) -> Table:
    """Contender × load, for reading."""
    columns = ("goodput", "images", "image_steps", "p50", "p95", "p99", "unanswered")
    found = Table(title="every contender under every load", title_justify="left")
    found.add_column("load")
    found.add_column("contender")
    for column in columns:
        found.add_column(column, justify="right")
    for load in results.loads:
        for contender in results.contenders:
            values = numbers(results.of(contender, load))
            found.add_row(load, contender, *(_short(values[column][0]) for column in columns))
        found.add_section()
    return found


def _short(value: float | None) -> str:
    return "-" if value is None else f"{value:.4g}"
