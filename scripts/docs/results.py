"""Pages of measured figures, from benchmarks/reports/*.json. Missed figures stand beside the others."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.report import Figure
from scripts.docs.markdown import code, table

ROOT = Path(__file__).parents[2]
REPORTS = ROOT / "benchmarks" / "reports"
NOTE = "<!-- Written by `python -m scripts.docs results` from benchmarks/reports. Do not edit. -->\n\n"
COLUMNS = ("figure", "value", "95 % interval", "unit", "must", "aim", "")
HEADLINES = (
    (
        "swap",
        "failed",
        "Requests that failed during {swaps:,.0f} version swaps under load ({requests:,.0f} requests)",
    ),
    (
        "serving",
        "images_vs_best_peer",
        "Images per second when saturated ÷ the best of diffusers, Ray Serve, LitServe and BentoML",
    ),
    (
        "starter",
        "plausible_of_real",
        "Plausible drawings of the starter ÷ plausible real cells, by the sealed judge",
    ),
    (
        "alignment-curve",
        "draft_gain_points",
        "Points of plausible images gained by two minutes of alignment with *simulated* ratings, by the sealed judge",
    ),
    ("basics", "overhead_ms_p50", "Median cost of gRPC, Ray Serve and storing over the engine's own time"),
)
"""(report, figure, sentence) of the README's table; a sentence may name other figures of its report."""
BLUR = """**The judge of these figures could not see texture.** It is the first judge as it was then, trained with
blur. Its figures do not compare with those of the judges of today: see
[evaluation](../explain/evaluation.md#two-judges)."""
BY_THE_BLURRED_JUDGE = frozenset(
    (
        "alignment",
        "alignment-slower",
        "alignment-slower-draft",
        "alignment-hacked",
        "alignment-concept",
    )
)
"""Reports whose figures that judge measured."""
BEGIN, END = "<!-- figures: written by `python -m scripts.docs results` -->", "<!-- end of figures -->"


OVERVIEW = """Each page shows one report of `benchmarks/reports`, with every figure in it.

*Must* is what was asked before it was measured. A figure that misses it is marked **missed** and is listed here.
Intervals are of 95 %. All ratings behind these figures are by *simulated* raters; no expert took part.
[Evaluation](../explain/evaluation.md) says what each figure of images means, and which judge measured it.
"""


@dataclass(frozen=True)
class ReportFile:
    """One JSON of benchmarks/reports."""

    name: str
    machine: Mapping[str, Any]
    versions: Mapping[str, str]
    date: str
    figures: Mapping[str, Figure]

    @property
    def missed(self) -> dict[str, Figure]:
        """The figures that do not keep to what was asked."""
        return {name: one for name, one in self.figures.items() if one.meets(one.must) is False}


def reports() -> list[ReportFile]:
    """Every report by its file's name."""
    return [_read(path) for path in sorted(REPORTS.glob("*.json"))]


def pages() -> dict[str, str]:
    """Path below docs/ and Markdown: an overview, one page for each report, and one for words that no report has yet,
    such as what an experiment is expected to show."""
    every, words, commands = reports(), _words(), _commands()
    made = {one.name: _page(one, commands.get(one.name, "")) for one in every}
    both = {name: made.get(name, f"# {name}\n") + _beside(words.get(name, "")) for name in {**made, **words}}
    named = {f"results/{name}.md": NOTE + text for name, text in sorted(both.items())}
    return {"results/index.md": NOTE + _overview(every, sorted(set(words) - set(made))), **named}


def headlines() -> str:
    """The README's table of figures."""
    every = {one.name: one for one in reports()}
    rows = [_headline(every[report], figure, sentence) for report, figure, sentence in HEADLINES]
    return table(("figure", "measured", "asked", "report"), rows)


def with_headlines(readme: str) -> str:
    """The README with its table made anew."""
    before, _, rest = readme.partition(BEGIN)
    _, _, after = rest.partition(END)
    return f"{before}{BEGIN}\n\n{headlines()}\n{END}{after}"


def _read(path: Path) -> ReportFile:
    told = json.loads(path.read_text("utf-8"))
    figures = {name: Figure(**figure) for name, figure in told["figures"].items()}
    return ReportFile(path.stem, told["machine"], told["versions"], told["date"], figures)


def _words() -> dict[str, str]:
    """What people wrote beside a report, or before one: the Markdown files of benchmarks/reports but its own page."""
    return {path.stem: path.read_text("utf-8") for path in REPORTS.glob("*.md") if path.name != "README.md"}


def _beside(words: str) -> str:
    return f"\n{words}" if words else ""


def _commands() -> dict[str, str]:
    """What benchmarks/reports/README.md says of how each report was made."""
    rows = re.findall(r"^\| (.+?) \| (.+) \|$", (REPORTS / "README.md").read_text("utf-8"), re.MULTILINE)
    return {name: command for files, command in rows for name in re.findall(r"`([\w-]+)\.json`", files)}


def _overview(every: Iterable[ReportFile], unmeasured: Iterable[str]) -> str:
    missed = [
        (f"[{one.name}]({one.name}.md)", code(name), _value(figure), _interval(figure), _limit(figure.must))
        for one in every
        for name, figure in one.missed.items()
    ]
    listed = [
        (
            f"[{one.name}]({one.name}.md)",
            one.date[:10],
            _machine(one),
            str(len(one.figures)),
            str(len(one.missed)),
        )
        for one in every
    ]
    return "\n".join(
        [
            "# Results\n",
            OVERVIEW,
            "## Missed\n",
            table(("report", "figure", "measured", "95 % interval", "must"), missed),
            "## Reports\n",
            table(("report", "date", "measured on", "figures", "missed"), listed),
            *(f"\nExpected, and not measured yet: [{name}]({name}.md).\n" for name in unmeasured),
        ]
    )


def _page(report: ReportFile, command: str) -> str:
    versions = ", ".join(f"{name} {version}" for name, version in report.versions.items())
    asked = {name: one for name, one in report.figures.items() if one.must or one.aim}
    others = {name: one for name, one in report.figures.items() if name not in asked}
    parts = [f"# {report.name}\n", f"Measured {report.date[:10]} on {_machine(report)}. {versions}.\n"]
    if report.name in BY_THE_BLURRED_JUDGE:
        parts.append(BLUR + "\n")
    if command:
        parts.append(f"How: {command}.\n")
    if asked:
        parts += ["## What was asked\n", table(COLUMNS, _rows(asked))]
    if others:
        parts += ["## Other figures\n", table(COLUMNS, _rows(others))]
    parts += [
        f"![{path.stem}](../../benchmarks/reports/{path.name})\n"
        for path in sorted(REPORTS.glob(f"{report.name}-*.svg"))
    ]
    return "\n".join(parts)


def _rows(figures: Mapping[str, Figure]) -> Iterator[tuple[str, ...]]:
    for name, one in figures.items():
        limits = (_limit(one.must), _limit(one.aim))
        yield code(name), _value(one), _interval(one), one.unit, *limits, _verdict(one)


def _verdict(figure: Figure) -> str:
    if figure.value is None:
        return "not measured"
    if figure.meets(figure.aim):
        return "aim met"
    return {True: "met", False: "**missed**", None: ""}[figure.meets(figure.must)]


def _headline(report: ReportFile, name: str, sentence: str) -> tuple[str, str, str, str]:
    figure = report.figures[name]
    values = {other: one.value for other, one in report.figures.items() if one.value is not None}
    interval = f" ({_interval(figure)})" if _interval(figure) else ""
    unit = f" {figure.unit}" if figure.unit in ("ms", "s") else ""
    missed = ", **missed**" if figure.meets(figure.must) is False else ""
    asked = _limit(figure.must) + missed
    return (
        sentence.format(**values),
        f"{_value(figure)}{unit}{interval}",
        asked,
        f"[{report.name}](docs/results/{report.name}.md)",
    )


def _limit(limit: str | None) -> str:
    return (limit or "").replace("<=", "≤").replace(">=", "≥")


def _machine(report: ReportFile) -> str:
    cores = report.machine["cores"]
    return f"{report.machine['cpu']}, {cores} core{'s' if cores != 1 else ''}, {report.machine['memory_gib']:g} GiB"


def _value(figure: Figure) -> str:
    return "–" if figure.value is None else short(figure.value)


def _interval(figure: Figure) -> str:
    """Example: "0.9 to 1.1"; "from 0.9" where only one bound is known."""
    low, high = figure.low, figure.high
    if low is None or high is None:
        bounds = (("from ", low), ("to ", high))
        return "".join(word + short(bound) for word, bound in bounds if bound is not None)
    return f"{short(low)} to {short(high)}"


def short(number: float) -> str:
    """Three digits, whole numbers whole."""
    if float(number).is_integer():
        return f"{int(number):,}"
    if abs(number) >= 100:
        return f"{number:,.0f}"
    return f"{number:.3g}"
