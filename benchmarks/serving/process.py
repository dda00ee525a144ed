"""Programs of this benchmark in processes of their own, which end with it."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil

import benchmarks
from benchmarks.machine import cores

ROOT = Path(benchmarks.__file__).resolve().parents[1]
INTERPRETER = Path(sys.executable)


def asked(module: str, *options: object, python: Path = INTERPRETER) -> Any:
    """What `python -m module` prints as JSON. RuntimeError with what it complained of when it fails."""
    done = subprocess.run(
        _command(python, module, options), env=_environment(), capture_output=True, text=True
    )
    if done.returncode:
        raise RuntimeError(f"{module} ended with {done.returncode}:\n{done.stderr[-2000:]}")
    return json.loads(done.stdout.splitlines()[-1])


class Process:
    """A `python -m module` that runs until it is stopped; what it says goes to `log`."""

    def __init__(self, python: Path, module: str, *options: object, log: Path) -> None:
        self._log, self._module = log, module
        with log.open("wb") as output:
            self._process = subprocess.Popen(
                _command(python, module, options), env=_environment(), stdin=subprocess.DEVNULL,
                stdout=output, stderr=subprocess.STDOUT, start_new_session=True,
            )  # fmt: skip

    def check(self) -> None:
        """RuntimeError when it has ended by itself."""
        if self._process.poll() is not None:
            raise RuntimeError(f"{self._module} ended with {self._process.returncode}:\n{self.tail()}")

    def tail(self, lines: int = 20) -> str:
        return "\n".join(self._log.read_text("utf-8", "replace").splitlines()[-lines:])

    def stop(self, timeout_s: float = 20.0) -> None:
        """Interrupt as Ctrl-C does; whatever is left of it and its children is killed."""
        family = self._family()
        with contextlib.suppress(ProcessLookupError):
            self._process.send_signal(signal.SIGINT)
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(timeout_s)
        _, alive = psutil.wait_procs(family, timeout=3)
        for process in alive:
            with contextlib.suppress(psutil.NoSuchProcess):
                process.kill()
        self._process.wait()

    def _family(self) -> list[psutil.Process]:
        with contextlib.suppress(psutil.NoSuchProcess):
            root = psutil.Process(self._process.pid)
            return [root, *root.children(recursive=True)]
        return []


@contextlib.contextmanager
def running(python: Path, module: str, *options: object, log: Path) -> Iterator[Process]:
    process = Process(python, module, *options, log=log)
    try:
        yield process
    finally:
        process.stop()


def every(seconds: float, timeout_s: float) -> Iterator[None]:
    """Turns of a loop that waits for something."""
    deadline = time.monotonic() + timeout_s
    while time.monotonic() < deadline:
        yield
        time.sleep(seconds)


def _command(python: Path, module: str, options: tuple[object, ...]) -> list[str]:
    return [str(python), "-m", module, "--threads", str(cores()), *map(str, options)]


def _environment() -> dict[str, str]:
    """Ours, so that all allocate and compute alike, with this checkout first."""
    path = os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH")]))
    return {**os.environ, "PYTHONPATH": path}
