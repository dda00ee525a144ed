"""Runs training jobs as processes beside serving, one at a time, oldest first. No Ray, no gRPC.

The catalog is the queue. A run that was RUNNING when the system went down is started again and resumes from its
checkpoints. A process that ends without having said how is a failed run, with its last log line as the reason.
"""

from __future__ import annotations

import functools
import logging
import os
import signal
import subprocess
import sys
import threading
from collections import deque
from collections.abc import Callable, Mapping
from pathlib import Path

from vouch.errors import FailedPrecondition, VouchError
from vouch.settings import SNAPSHOT, Settings
from vouch.storage.catalog import Catalog
from vouch.storage.state import StateFolder
from vouch.types.page import Page, every
from vouch.types.run import Run, RunState

log = logging.getLogger("vouch.jobs")

LOG_NAME = "log.txt"
Command = Callable[[str], list[str]]


def training_command(run_id: str) -> list[str]:
    """What executes a run. It takes its settings from the environment that `training_environment` makes."""
    return [sys.executable, "-m", "training.run", "--run", run_id]


def training_environment(settings: Settings) -> dict[str, str]:
    """The settings of this system, whole: a run finds its catalog and its stores wherever they are."""
    return {SNAPSHOT: settings.snapshot()}


class Runner:
    """One thread that takes the next run, starts its process, watches it, and records how it ended."""

    def __init__(
        self,
        catalog: Catalog,
        folder: StateFolder,
        command: Command,
        *,
        environment: Mapping[str, str] | None = None,
        niceness: int = 19,
        poll_s: float = 0.5,
        grace_s: float = 15.0,
        on_end: Callable[[Run], None] = lambda run: None,
    ) -> None:
        self._catalog, self._folder, self._command = catalog, folder, command
        self._environment = {**os.environ, **(environment or {})}
        self._niceness, self._poll_s, self._grace_s = niceness, poll_s, grace_s
        self._on_end = on_end
        self._notified = threading.Event()
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="jobs", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def notify(self) -> None:
        """Something was queued or cancelled: look at once."""
        self._notified.set()

    def stop(self) -> None:
        """End the process that runs, if any. Its run stays RUNNING and is resumed by the next system."""
        self._stopping.set()
        self._notified.set()
        if self._thread.is_alive():
            self._thread.join(self._grace_s + 10)

    # ---- the thread

    def _run(self) -> None:
        while not self._stopping.is_set():
            try:
                run = self._next()
                if run is not None:
                    self._execute(run)
                    continue
            except (VouchError, OSError) as error:  # a busy catalog, a full disk: the queue is still there
                log.warning("the job queue could not go on: %s", error)
            self._pause()

    def _pause(self) -> None:
        self._notified.wait(self._poll_s)
        self._notified.clear()

    def _page(self, state: RunState, token: str) -> Page[Run]:
        return self._catalog.runs.list(state=state, page_size=1000, page_token=token)

    def _next(self) -> Run | None:
        """A run that an earlier system left behind, else the oldest in the queue."""
        states: tuple[RunState, ...] = ("RUNNING", "QUEUED")
        for state in states:
            oldest = deque(every(functools.partial(self._page, state)), maxlen=1)
            if oldest:
                return oldest[0]
        return None

    def _execute(self, run: Run) -> None:
        if run.cancel_requested:
            self._finish(run.run_id, -signal.SIGTERM)
            return
        with self._log_file(run.run_id).open("ab") as output:
            process = self._spawn(run.run_id, output.fileno())
        try:
            self._watch(run.run_id, process)
        finally:
            _end(process, 0.0)
        if not self._stopping.is_set():
            self._finish(run.run_id, process.returncode)

    def _spawn(self, run_id: str, output: int) -> subprocess.Popen[bytes]:
        launch = [sys.executable, "-m", "services.jobs.launch", str(self._niceness), str(os.getpid())]
        return subprocess.Popen(
            [*launch, *self._command(run_id)],
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            env=self._environment,
            start_new_session=True,
        )

    def _watch(self, run_id: str, process: subprocess.Popen[bytes]) -> None:
        """Until the process ends, the run is cancelled, or the system stops."""
        while process.poll() is None:
            if self._stopping.is_set() or self._catalog.runs.get(run_id).cancel_requested:
                _end(process, self._grace_s)
                return
            self._wait_for(process)

    def _wait_for(self, process: subprocess.Popen[bytes]) -> None:
        try:
            process.wait(self._poll_s)
        except subprocess.TimeoutExpired:
            return

    def _finish(self, run_id: str, code: int) -> None:
        """Record the end of a run whose process did not do so itself."""
        run = self._catalog.runs.get(run_id)
        try:
            if not run.ended and run.cancel_requested:
                run = self._catalog.runs.finish(run_id, "CANCELLED")
            elif not run.ended:
                run = self._catalog.runs.finish(run_id, "FAILED", error=self._why(run_id, code))
        except FailedPrecondition:
            run = self._catalog.runs.get(run_id)  # it ended at this very moment
        self._on_end(run)

    def _why(self, run_id: str, code: int) -> str:
        how = f"was ended by {signal.Signals(-code).name}" if code < 0 else f"ended with exit code {code}"
        last = last_line(self._log_file(run_id))
        detail = f" Its last line was: {last}" if last else ""
        return f"The training process {how} before it was done.{detail} The whole log is in {self._log_file(run_id)}."

    def _log_file(self, run_id: str) -> Path:
        folder = self._folder.run(run_id)
        folder.mkdir(parents=True, exist_ok=True)
        return folder / LOG_NAME


def _end(process: subprocess.Popen[bytes], grace_s: float) -> None:
    """SIGTERM to the whole group; SIGKILL to what is left after the grace."""
    _signal_group(process, signal.SIGTERM)
    try:
        process.wait(grace_s)
    except subprocess.TimeoutExpired:
        _signal_group(process, signal.SIGKILL)
        process.wait()


def _signal_group(process: subprocess.Popen[bytes], number: int) -> None:
    try:
        os.killpg(process.pid, number)
    except (ProcessLookupError, PermissionError):
        return  # all of them have ended


def last_line(path: Path, tail: int = 8192) -> str:
    """The last line with text of a log, at most 500 characters of it."""
    try:
        with path.open("rb") as file:
            file.seek(max(0, path.stat().st_size - tail))
            lines = file.read().decode("utf-8", "replace").splitlines()
    except OSError:
        return ""
    return next((line.strip()[:500] for line in reversed(lines) if line.strip()), "")
