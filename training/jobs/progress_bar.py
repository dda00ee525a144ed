"""A progress bar of a job that runs in another process."""

from __future__ import annotations

import json
import threading
import time
from pathlib import Path

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)


class ProgressBar:
    """A progress bar fed from the file that the worker writes."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._stop = threading.Event()
        columns = (
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            TimeRemainingColumn(),
        )
        self._progress = Progress(*columns, console=Console(stderr=True))

    def __enter__(self) -> None:
        self._progress.start()
        self._thread = threading.Thread(target=self._follow, daemon=True)
        self._thread.start()

    def __exit__(self, *exc: object) -> None:
        self._stop.set()
        self._thread.join()
        self._progress.stop()

    def _follow(self) -> None:
        task = self._progress.add_task("starting", total=None)
        began = time.time()
        while not self._stop.wait(0.5):
            if self._path.is_file() and self._path.stat().st_mtime >= began:
                seen = json.loads(self._path.read_text())
                self._progress.update(
                    task, completed=seen["step"], total=seen["total_steps"], description=seen["message"]
                )
