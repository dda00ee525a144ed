"""Output of the command line: consoles, tables, progress bars, and images as coloured half-blocks."""

from __future__ import annotations

import dataclasses
import datetime as dt
import math
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, TextIO

from rich.console import Console, ConsoleOptions, RenderableType
from rich.markup import escape
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    ProgressColumn,
    SpinnerColumn,
    Task,
    TextColumn,
    TimeRemainingColumn,
)
from rich.segment import Segment
from rich.table import Table
from rich.text import Text

from vouch.formats.escapes import json_text, visible, visible_lines

__all__ = [
    "ago", "digest", "escape", "facts", "half_blocks", "image_width", "percent", "plain", "print_json", "progress",
    "score", "size", "stderr", "stdout", "table",
]  # fmt: skip

DIGEST_LENGTH = 12
PIPE_WIDTH = 1000


def stdout() -> Console:
    return _console(sys.stdout)


def stderr() -> Console:
    return _console(sys.stderr)


class SafeConsole(Console):
    """Sends no control sequence of a printed text to the terminal."""

    def render(self, renderable: RenderableType, options: ConsoleOptions | None = None) -> Iterator[Segment]:
        for segment in super().render(renderable, options):
            yield segment if segment.control else Segment(visible_lines(segment.text), segment.style)


def _console(file: TextIO) -> Console:
    # Created for each call: tests replace sys.stdout. Lines in a pipe are not wrapped.
    return SafeConsole(file=file, width=None if file.isatty() else PIPE_WIDTH)


def print_json(value: Any) -> None:
    """One JSON document on one line, so that streams of documents are JSON lines."""
    sys.stdout.write(json_text(plain(value)) + "\n")
    sys.stdout.flush()


def plain(value: Any) -> Any:
    """A value of the client, or a container of them, as JSON types. Image bytes are left out."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        named = {one.name: getattr(value, one.name) for one in dataclasses.fields(value)}
        return {name: plain(content) for name, content in named.items() if not isinstance(content, bytes)}
    if isinstance(value, Mapping):
        return {str(name): plain(content) for name, content in value.items()}
    if isinstance(value, (list, tuple, set, frozenset)):
        return [plain(item) for item in value]
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if value is None or isinstance(value, (str, int)):
        return value
    return value.isoformat() if isinstance(value, (dt.datetime, dt.date)) else str(value)


def table(
    columns: Sequence[str], rows: Iterable[Sequence[Any]], title: str = "", empty: str = ""
) -> Table | Text:
    """A plain table, or `empty` without rows. Cells are text, never markup."""
    drawn = Table(title=title or None, title_justify="left", box=None, pad_edge=False, header_style="bold")
    for name in columns:
        numeric = name.startswith("#")
        drawn.add_column(name.lstrip("#"), justify="right" if numeric else "left", overflow="fold")
    for row in rows:
        drawn.add_row(*(cell if isinstance(cell, Text) else Text(visible(str(cell))) for cell in row))
    return drawn if drawn.row_count or not empty else Text(empty, style="dim")


def facts(pairs: Mapping[str, Any]) -> Table:
    """Names and values, one pair per line."""
    drawn = Table.grid(padding=(0, 2))
    for name, value in pairs.items():
        if value not in ("", None):
            drawn.add_row(
                Text(name, style="bold"),
                value if isinstance(value, (Text, Table)) else Text(visible(str(value))),
            )
    return drawn


def score(value: float | None, std: float | None = None) -> Text:
    """A reward score, coloured, with the standard deviation over the ensemble."""
    if value is None:
        return Text("not scored", style="dim")
    style = "green" if value >= 0.8 else "yellow" if value >= 0.5 else "red"
    return Text.assemble((f"{value:.3f}", style), ("" if std is None else f" ± {std:.3f}", "dim"))


def size(value: int) -> str:
    """Bytes with a decimal unit."""
    for unit, step in (("GB", 10**9), ("MB", 10**6), ("kB", 10**3)):
        if value >= step:
            return f"{value / step:.1f} {unit}"
    return f"{value} B"


def digest(value: str) -> str:
    """A digest short enough to read; the catalog accepts it as a reference."""
    return value[:DIGEST_LENGTH]


def percent(value: float | None) -> str:
    return "" if value is None else f"{100 * value:.1f} %"


def ago(moment: dt.datetime | None, now: dt.datetime | None = None) -> str:
    """Elapsed time in the largest fitting unit."""
    if moment is None:
        return ""
    now = now or dt.datetime.now(dt.timezone.utc)
    if moment.tzinfo is None:
        moment = moment.replace(tzinfo=dt.timezone.utc)
    seconds = max(0, int((now - moment).total_seconds()))
    for size, unit in ((86400, "d"), (3600, "h"), (60, "min")):
        if seconds >= size:
            return f"{seconds // size} {unit} ago"
    return f"{seconds} s ago"


class RateColumn(ProgressColumn):
    """Items per second, over the recent history of the bar."""

    def __init__(self, unit: str) -> None:
        super().__init__()
        self.unit = unit

    def render(self, task: Task) -> Text:
        speed = task.finished_speed or task.speed
        return Text("" if speed is None else f"{speed:,.1f} {self.unit}/s", style="cyan")


def progress(unit: str = "images", hidden: bool = False) -> Progress:
    """A progress bar on stderr, so that stdout is for results. Disabled if stderr is not a terminal."""
    console = stderr()
    return Progress(
        SpinnerColumn(),
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        MofNCompleteColumn(),
        RateColumn(unit),
        TimeRemainingColumn(),
        console=console,
        disable=hidden or not console.is_terminal,
        transient=False,
    )


def half_blocks(encoded: bytes, columns: int = 48) -> Text:
    """An encoded image as text of `columns` characters; each ▀ shows two pixels, one above the other.

    Raises `InvalidInput` if the bytes are not an image.
    """
    from PIL import Image

    from vouch.formats.images import decode

    picture = Image.fromarray(decode(encoded))
    columns = max(8, min(columns, picture.width))
    rows = max(2, round(picture.height * columns / picture.width / 2) * 2)
    picture = picture.resize((columns, rows), Image.Resampling.LANCZOS)
    pixels = picture.load()
    assert pixels is not None
    text = Text()
    for y in range(0, rows, 2):
        for x in range(columns):
            above, below = pixels[x, y], pixels[x, y + 1]
            text.append("▀", style=f"#{_hex(above)} on #{_hex(below)}")
        text.append("\n")
    return text


def _hex(pixel: Any) -> str:
    return "".join(f"{channel:02x}" for channel in pixel[:3])


def image_width(console: Console) -> int:
    """Columns that leave room for the checklist beside or below the image."""
    return max(16, min(64, console.width - 4, 2 * (console.height - 12)))
