"""Evidence as one self-contained page."""

from __future__ import annotations

import base64
import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib import resources
from pathlib import Path

import numpy as np
from jinja2 import Environment, select_autoescape

from training.evaluation.evidence import Drawn
from training.evaluation.intervals import Estimate
from training.grids import contact_sheet
from vouch.atomic import write_whole

SHOWN = 12
"""Pictures of a class."""
RATES = (
    "plausible",
    "recognised",
    "precision",
    "recall",
    "coverage",
    "authentic",
    "real",
    "copy",
    "attributes",
)
"""What begins with these is a share, and has a bar."""


@dataclass(frozen=True)
class Column:
    """A version's figures."""

    name: str
    drawn: Drawn
    figures: Mapping[str, Estimate]


def write_report(path: Path, columns: Sequence[Column], gain: Mapping[str, Estimate]) -> None:
    """Writes the page: figures side by side, then pictures of the same prompts and seeds side by side."""
    source = (resources.files("training") / "evaluation" / "report.html").read_text(encoding="utf-8")
    page = Environment(autoescape=select_autoescape(default=True)).from_string(source)
    names = list(dict.fromkeys(name for column in columns for name in column.figures))
    rows = [(name, [_cell(name, column.figures.get(name)) for column in columns]) for name in names]
    text = page.render(
        columns=[column.name for column in columns],
        rows=rows,
        gain=[(name, _text(name, estimate)) for name, estimate in gain.items()],
        classes=[(label, [_sheet(column.drawn, label) for column in columns]) for label in _labels(columns)],
    )
    write_whole(path, text.encode())


def _cell(name: str, estimate: Estimate | None) -> dict[str, object]:
    if estimate is None or estimate.value != estimate.value:
        return {"text": "", "bar": None}
    bar = (
        (estimate.low, estimate.value, estimate.high)
        if _is_rate(name) and estimate.low == estimate.low
        else None
    )
    return {"text": _text(name, estimate), "bar": bar}


def _text(name: str, estimate: Estimate) -> str:
    def told(value: float) -> str:
        return f"{100 * value:.1f} %" if _is_rate(name) else f"{value:.3g}"

    if estimate.low != estimate.low:
        return told(estimate.value)
    return f"{told(estimate.value)} ({told(estimate.low)} to {told(estimate.high)})"


def _is_rate(name: str) -> bool:
    return name.startswith(RATES)


def _labels(columns: Sequence[Column]) -> list[str]:
    return sorted({_label(prompt) for prompt in columns[0].drawn.prompts})


def _label(prompt: str) -> str:
    return prompt.partition(",")[0].strip()


def _sheet(drawn: Drawn, label: str) -> str:
    """Pictures of a class as a data URL."""
    rows = [row for row, prompt in enumerate(drawn.prompts) if _label(prompt) == label][:SHOWN]
    buffer = io.BytesIO()
    contact_sheet(np.stack([drawn.images[row] for row in rows]), columns=6).save(buffer, "PNG")
    return "data:image/png;base64," + base64.b64encode(buffer.getvalue()).decode()
