"""What the demo prints."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

console = Console(width=None if sys.stdout.isatty() else 120)


def say(text: str) -> None:
    console.print(text, highlight=False)


@contextmanager
def bar(name: str, total: int | None) -> Iterator[Any]:
    columns = (TextColumn("   {task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=console, transient=True) as progress:
        task = progress.add_task(name, total=total)

        def advance(step: int | None = None, steps: int | None = None, text: str | None = None) -> None:
            if step is None:
                progress.advance(task)
            else:
                progress.update(task, completed=step, total=steps or None, description=text or name)

        yield advance
