"""One form for every benchmark: a table for people, a JSON for machines.

    report = Report("swap")
    report.add("failed", Figure(0, unit="requests", must="<= 0", aim="<= 0"))
    report.finish(json_path)

The JSON is {"benchmark", "machine", "versions", "date", "figures": {NAME: FIGURE}} with FIGURE as
{"value", "low", "high", "unit", "must", "aim"}.
A missed figure is reported, not an error: benchmarks end with 0 whenever they could measure.
"""

from __future__ import annotations

import argparse
import json
import operator
import os
import sys
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console
from rich.table import Table

from benchmarks.machine import machine, versions
from training.evaluation.intervals import bootstrap

COMPARE: dict[str, Callable[[float, float], bool]] = {"<=": operator.le, ">=": operator.ge, ">": operator.gt}


@dataclass(frozen=True)
class Figure:
    """One measured number.

    `value` is None when it could not be measured. `low` and `high` bound its 95 % interval, None without one.
    `must` and `aim` are limits of the value, such as "<= 1.5", ">= 0.9" or "> 0", None where nothing is asked. Where
    the whole interval has to keep to a limit, its nearer bound is a figure of its own.
    """

    value: float | None
    unit: str
    low: float | None = None
    high: float | None = None
    must: str | None = None
    aim: str | None = None

    def __post_init__(self) -> None:
        for limit in filter(None, (self.must, self.aim)):
            split_limit(limit)

    def meets(self, limit: str | None) -> bool | None:
        """Whether the value keeps to `limit`; None when there is nothing to compare."""
        if limit is None or self.value is None:
            return None
        sign, bound = split_limit(limit)
        return COMPARE[sign](self.value, bound)


def median_figure(
    samples: Sequence[float], unit: str, must: str | None = None, aim: str | None = None
) -> Figure:
    """The median with its interval; none of one sample alone."""
    low, high = bootstrap(samples, np.median) if len(samples) > 1 else (None, None)
    return Figure(float(np.median(samples)), unit=unit, low=low, high=high, must=must, aim=aim)


def split_limit(limit: str) -> tuple[str, float]:
    """(sign, bound) of a limit such as "<= 1.5"; ValueError for any other form."""
    sign, _, bound = limit.partition(" ")
    if sign not in COMPARE:
        raise ValueError(f"a limit reads like '<= 1.5' or '>= 0.9', not {limit!r}")
    return sign, float(bound)


def screen() -> Console:
    """Where tables go; wide enough for them where nobody says how wide a log is."""
    return Console(width=None if sys.stdout.isatty() else 120)


class Report:
    """The figures of one run of one benchmark."""

    def __init__(self, benchmark: str) -> None:
        self.benchmark = benchmark
        self.figures: dict[str, Figure] = {}

    def add(self, name: str, figure: Figure) -> None:
        if name in self.figures:
            raise ValueError(f"figure {name} is already reported")
        self.figures[name] = figure

    def include(self, other: Report) -> None:
        """Adds the figures of a part that was measured on its own."""
        for name, figure in other.figures.items():
            self.add(name, figure)

    def as_json(self) -> dict[str, Any]:
        return {
            "benchmark": self.benchmark,
            "machine": machine(),
            "versions": versions(),
            "date": datetime.now(timezone.utc).isoformat(timespec="seconds"),
            "figures": {name: asdict(figure) for name, figure in self.figures.items()},
        }

    def table(self) -> Table:
        table = Table(title=f"vouch benchmark: {self.benchmark}", title_justify="left")
        for column, justify in (
            ("figure", "left"), ("value", "right"), ("95 % interval", "right"), ("unit", "left"),
            ("must", "right"), ("aim", "right"), ("", "left"),
        ):  # fmt: skip
            table.add_column(column, justify=justify, no_wrap=column != "unit")  # type: ignore[arg-type]
        for name, figure in self.figures.items():
            table.add_row(*_row(name, figure))
        return table

    def finish(self, path: Path | None, *, console: Console | None = None) -> None:
        """Prints the table and writes the JSON whole: a reader never meets half of one."""
        (console or screen()).print(self.table())
        if path is None:
            return
        path.parent.mkdir(parents=True, exist_ok=True)
        partial = path.with_name(path.name + ".partial")
        partial.write_text(json.dumps(self.as_json(), indent=2, allow_nan=False) + "\n")
        os.replace(partial, path)


def _row(name: str, figure: Figure) -> tuple[str, ...]:
    if figure.low is None or figure.high is None:
        interval = ""
    else:
        interval = f"{_short(figure.low)} … {_short(figure.high)}"
    verdict = {None: "", True: "[green]met[/]", False: "[red]missed[/]"}[figure.meets(figure.must)]
    if figure.meets(figure.aim):
        verdict = "[green]aim met[/]"
    if figure.value is None:
        verdict = "[yellow]not measured[/]"
    return (
        name, _short(figure.value), interval, figure.unit, figure.must or "", figure.aim or "", verdict,
    )  # fmt: skip


def _short(number: float | None) -> str:
    if number is None:
        return "-"
    if float(number).is_integer():
        return f"{int(number):,}"
    return f"{number:,.1f}" if abs(number) >= 100 else f"{number:.3g}"


def arguments(module: str, summary: str) -> argparse.ArgumentParser:
    """The options that every benchmark has; each adds its own."""
    parser = argparse.ArgumentParser(prog=f"python -m {module}", description=summary)
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the figures to this file")
    return parser
