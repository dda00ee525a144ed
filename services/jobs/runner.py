"""Runs training jobs as processes beside serving, one at a time, oldest first. No Ray, no gRPC.

The catalog is the queue. A run that was RUNNING when the system went down is started again and resumes from its
checkpoints; so is one whose process was killed, a bounded number of times. A process that ends otherwise without having
said how is a failed run, with its last log line as the reason.
"""

from __future__ import annotations

import logging
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Mapping
from pathlib import Path

from vouch.errors import Exhausted, FailedPrecondition, Unavailable
from vouch.settings import SNAPSHOT, Settings
from vouch.storage.catalog import Catalog
from vouch.storage.state import StateFolder
from vouch.types.run import Run

log = logging.getLogger("vouch.jobs")

LOG_NAME = "log.txt"
MOST_RESTARTS = 2
"""How often a training process that was killed is started again; it resumes from its checkpoints."""
DELIBERATE_SIGNALS = frozenset({signal.SIGINT, signal.SIGTERM, signal.SIGHUP})
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
            except Exception as error:  # noqa: BLE001 - a busy catalog, a full disk: the queue is still there
                log.warning("the job queue could not go on: %s", error)
            self._pause()

    def _pause(self) -> None:
        self._notified.wait(self._poll_s)
        self._notified.clear()

    def _next(self) -> Run | None:
        """A run that an earlier system left behind, else the oldest in the queue."""
        return self._catalog.runs.oldest_open()

    def _execute(self, run: Run) -> None:
        """Carry out a run, unless another system has this catalog's queue, such as the one that this one replaces."""
        with self._catalog.runs.queue() as alone:
            run = self._catalog.runs.get(run.run_id)
            if alone and not run.ended:
                self._carry_out(run)
                return
        self._pause()

    def _carry_out(self, run: Run) -> None:
        if run.cancel_requested:
            self._finish(run, -signal.SIGTERM)
            return
        code, restarts = self._run_process(run), 0
        while restarts < MOST_RESTARTS and self._was_killed(run, code):
            restarts += 1
            message = f"started again after {signal.Signals(-code).name} ({restarts} of {MOST_RESTARTS})"
            run = self._catalog.runs.progress(run.run_id, step=run.step, message=message)
            code = self._run_process(run)
        if not self._stopping.is_set():
            self._finish(run, code, restarts)

    def _run_process(self, run: Run) -> int:
        """The exit code of the run's process; negative for the number of a signal."""
        with self._log_file(run.run_id).open("ab") as output:
            process = self._spawn(run.run_id, output.fileno())
        try:
            self._watch(run, process)
        finally:
            _end(process, 0.0)
        return int(process.returncode)

    def _was_killed(self, run: Run, code: int) -> bool:
        """Whether the process ended by a signal that nobody sent on purpose, as the kernel's when memory is short."""
        if self._stopping.is_set() or code >= 0 or -code in DELIBERATE_SIGNALS:
            return False
        latest = self._catalog.runs.get(run.run_id)
        return not (latest.ended or latest.cancel_requested or _taken_over(run, latest))

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

    def _watch(self, run: Run, process: subprocess.Popen[bytes]) -> None:
        """Until the process ends, the run is cancelled or taken over, or the system stops."""
        while process.poll() is None:
            if self._stopping.is_set() or self._is_withdrawn(run):
                _end(process, self._grace_s)
                return
            self._wait_for(process)

    def _is_withdrawn(self, run: Run) -> bool:
        try:
            latest = self._catalog.runs.get(run.run_id)
        except (Unavailable, Exhausted):
            return False  # a training outlasts a failover of the catalog's database
        return latest.cancel_requested or _taken_over(run, latest)

    def _wait_for(self, process: subprocess.Popen[bytes]) -> None:
        try:
            process.wait(self._poll_s)
        except subprocess.TimeoutExpired:
            return

    def _finish(self, run: Run, code: int, restarts: int = 0) -> None:
        """Record the end of a run whose process did not do so itself."""
        latest = self._catalog.runs.get(run.run_id)
        if _taken_over(run, latest):
            return
        try:
            if not latest.ended and latest.cancel_requested:
                latest = self._catalog.runs.finish(run.run_id, "CANCELLED")
            elif not latest.ended:
                error = self._why(run.run_id, code, restarts)
                latest = self._catalog.runs.finish(run.run_id, "FAILED", error=error)
        except FailedPrecondition:
            latest = self._catalog.runs.get(run.run_id)  # it ended at this very moment
        self._on_end(latest)

    def _why(self, run_id: str, code: int, restarts: int) -> str:
        how = f"was ended by {signal.Signals(-code).name}" if code < 0 else f"ended with exit code {code}"
        again = f" after {restarts} restarts" if restarts else ""
        last = last_line(self._log_file(run_id))
        detail = f" Its last line was: {last}" if last else ""
        log_file = self._log_file(run_id)
        return (
            f"The training process {how} before it was done{again}.{detail} The whole log is in {log_file}."
        )

    def _log_file(self, run_id: str) -> Path:
        folder = self._folder.run(run_id)
        folder.mkdir(parents=True, exist_ok=True)
        return folder / LOG_NAME


def _taken_over(run: Run, latest: Run) -> bool:
    """Whether the run was started elsewhere since its process here began: the hold on the queue is lost with the
    connection to the database."""
    return latest.attempt > run.attempt + 1


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
