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
from PIL import Image

from training.contact_sheet import contact_sheet
from training.evaluation.evidence import GeneratedSet, Seen
from training.evaluation.gate import Check, Gate
from training.evaluation.intervals import Estimate
from vouch.storage.atomic import write_whole

SHOWN = 12
"""Pictures of a class, and pairs of a generated image and the training image next to it."""
RATES = (
    "plausible",
    "recognised",
    "precision",
    "recall",
    "coverage",
    "authentic",
    "copy",
    "attributes",
    "below",
    "alpha",
    "beta",
    "downstream",
)
"""What begins with these is a share, and has a bar."""


GENERATED, REAL = "against real", "real against real"


@dataclass(frozen=True)
class Column:
    """A version's figures."""

    name: str
    seen: Seen
    figures: Mapping[str, Estimate]


@dataclass(frozen=True)
class Pair:
    """A generated image beside the training image next to it, as a data URL."""

    picture: str
    prompt: str
    relative: float
    alarmed: bool


def write_report(
    path: Path, columns: Sequence[Column], gain: Mapping[str, Estimate], gate: Gate | None = None
) -> None:
    """Writes the page: the verdict, figures side by side, the images nearest to training images, then pictures of the
    same prompts and seeds side by side."""
    source = (resources.files("training") / "evaluation" / "report.html").read_text(encoding="utf-8")
    page = Environment(autoescape=select_autoescape(default=True)).from_string(source)
    rows = [
        _row(name, columns) for name in dict.fromkeys(name for column in columns for name in column.figures)
    ]
    text = page.render(
        columns=[column.name for column in columns],
        rows=[row for row in rows if row is not None],
        gain=[(name, _text(name, estimate, "+")) for name, estimate in gain.items()],
        gate=gate,
        checks=[(check, _change(check)) for check in gate.checks] if gate else [],
        notes=columns[0].seen.notes(),
        nearest=[(column.name, _pairs(column.seen)) for column in columns if column.seen.nearest],
        classes=[
            (label, [_sheet(column.seen.drawn, label) for column in columns]) for label in _labels(columns)
        ],
    )
    write_whole(path, text.encode())


def _row(name: str, columns: Sequence[Column]) -> tuple[str, list[dict[str, object]]] | None:
    """A figure of every version and of real images; None for what is shown as that of real images elsewhere."""
    if name.startswith("real ") or REAL in name:
        return None
    real = name.replace(GENERATED, REAL) if GENERATED in name else f"real {name}"
    cells = [_cell(name, column.figures.get(name)) for column in columns]
    return name.replace(f", {GENERATED}", ""), [*cells, _cell(name, columns[0].figures.get(real))]


def _cell(name: str, estimate: Estimate | None) -> dict[str, object]:
    if estimate is None or estimate.value != estimate.value:
        return {"text": "", "bar": None}
    bar = (
        (estimate.low, estimate.value, estimate.high)
        if _is_rate(name) and estimate.low == estimate.low
        else None
    )
    return {"text": _text(name, estimate), "bar": bar}


def _text(name: str, estimate: Estimate, sign: str = "") -> str:
    def formatted(value: float) -> str:
        return f"{100 * value:{sign}.1f}" if _is_rate(name) else f"{value:{sign}.2f}"

    unit = "" if not _is_rate(name) else " points" if sign else " %"
    if estimate.low != estimate.low:
        return formatted(estimate.value) + unit
    return f"{formatted(estimate.value)}{unit} ({formatted(estimate.low)} to {formatted(estimate.high)})"


def _is_rate(name: str) -> bool:
    name = name.removeprefix("real ")
    return name.startswith(RATES) and "distance" not in name


def _change(check: Check) -> str:
    return "" if check.change is None else _text(check.name, check.change, "+")


def _pairs(seen: Seen) -> list[Pair]:
    """The generated images nearest to a training image, the nearest first."""
    neighbours, train = seen.nearest, seen.real.train
    assert neighbours is not None and train is not None
    pairs = []
    for row in np.argsort(neighbours.relative, kind="stable")[:SHOWN]:
        next_to = train.images[int(neighbours.index[row])].permute(1, 2, 0).numpy()
        both = contact_sheet(np.stack([seen.drawn.images[row], _like(next_to, seen.drawn.images[row])]), 2)
        pairs.append(
            Pair(
                _url(both), seen.drawn.prompts[row], float(neighbours.relative[row]), bool(seen.alarmed[row])
            )
        )
    return pairs


def _like(image: np.ndarray, other: np.ndarray) -> np.ndarray:
    """`image` in the size of `other`."""
    if image.shape == other.shape:
        return image
    return np.asarray(Image.fromarray(image).resize((other.shape[1], other.shape[0])))


def _labels(columns: Sequence[Column]) -> list[str]:
    return sorted(set(columns[0].seen.drawn.labels))


def _sheet(drawn: GeneratedSet, label: str) -> str:
    """Pictures of a class as a data URL."""
    rows = [row for row, other in enumerate(drawn.labels) if other == label][:SHOWN]
    return _url(contact_sheet(np.stack([drawn.images[row] for row in rows]), columns=6))


def _url(picture: Image.Image) -> str:
    buffer = io.BytesIO()
    picture.save(buffer, "PNG")
    return "data:image/png;base64," + base64.b64encode(buffer.getvalue()).decode()
