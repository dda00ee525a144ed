"""A process that carries out requests on the real parts, and can be killed, stopped or cut off inside any of them.

It is forked, so that it starts in milliseconds. What it acknowledges goes through a pipe that no fault of the disk
touches. Inside a request every fsync, rename and transaction is a point where a fault may strike.
"""

from __future__ import annotations

import fcntl
import functools
import json
import os
import select
import signal
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import sqlalchemy as sa

from benchmarks.faults.disk import LoopDisk
from benchmarks.faults.parts import Answer, Parts
from vouch.errors import VouchError
from vouch.settings import Settings

PIPE_SIZE = 1031
"""F_SETPIPE_SZ of Linux, which Python names since 3.10 where the C library does."""
LONGEST_S = 60.0
"""A request that takes longer hangs."""


@dataclass(frozen=True)
class Strike:
    """A fault inside the next request: at its `point`-th point it is killed, stopped, or the power is cut."""

    kind: str  # "kill" | "stop" | "cut"
    point: int


class Ended(Exception):
    """The process died before it answered."""


class Stopped(Exception):
    """The process was stopped inside the request."""


class Forked:
    """A child with `Parts` of its own.

    plant: changes the code that the child runs (a planted fault).
    """

    def __init__(
        self, settings: Settings, disk: LoopDisk | None, plant: Callable[[], None] | None = None
    ) -> None:
        scratch = _scratch().name
        orders, self._orders = os.pipe()
        self._answers, answers = os.pipe()
        fcntl.fcntl(answers, PIPE_SIZE, 1 << 20)  # nobody reads while a power cut is waited for
        self.pid = os.fork()
        if self.pid == 0:
            _close(self._orders, self._answers)
            _child(settings, disk, plant, orders, answers, scratch)
        _close(orders, answers)
        self._buffer = b""
        self._gone = False

    def ask(self, name: str, arguments: dict[str, Any], strike: Strike | None = None) -> Answer:
        """The acknowledgement, or {"refused": reason}.

        Raises:
            Ended, Stopped: a strike hit.
        """
        self.tell(name, arguments, strike)
        return self.answer()

    def tell(self, name: str, arguments: dict[str, Any], strike: Strike | None = None) -> None:
        """Ask, and wait for no answer. Raises Ended."""
        struck = [strike.kind, strike.point] if strike else None
        order = {"name": name, "arguments": arguments, "strike": struck}
        try:
            os.write(self._orders, json.dumps(order).encode() + b"\n")
        except BrokenPipeError as error:
            raise Ended from error

    def answer(self) -> Answer:
        """The answer of the request that is under way. Raises as `ask`, and TimeoutError for one that hangs."""
        deadline = time.monotonic() + LONGEST_S
        while time.monotonic() < deadline:
            line = self._line(0.01)
            if line is not None:
                return dict(json.loads(line))
            pid, status = os.waitpid(self.pid, os.WNOHANG | os.WUNTRACED) if not self._gone else (0, 0)
            if pid and os.WIFSTOPPED(status):
                raise Stopped
            if pid or self._gone:
                self._gone = True
                line = self._line(0.0)  # what it said before it died
                if line is not None:
                    return dict(json.loads(line))
                raise Ended
        raise TimeoutError(f"no answer within {LONGEST_S:.0f} s")

    def resume(self) -> None:
        os.kill(self.pid, signal.SIGCONT)

    def told(self) -> list[Answer]:
        """Everything that the child said and nobody read yet, after it has ended."""
        lines = []
        while (line := self._line(0.0)) is not None:
            lines.append(dict(json.loads(line)))
        return lines

    def freeze(self) -> None:
        """Stop it between two system calls, so that none is under way. See `power`."""
        os.kill(self.pid, signal.SIGSTOP)
        os.waitpid(self.pid, os.WUNTRACED)

    def kill(self) -> None:
        """SIGKILL, and wait until it is gone. Its answers can still be read."""
        if not self._gone:
            os.kill(self.pid, signal.SIGKILL)
            os.waitpid(self.pid, 0)
            self._gone = True

    def close(self) -> None:
        self.kill()
        _close(self._orders, self._answers)

    def _line(self, timeout_s: float) -> bytes | None:
        """The next line; None when none came in time, or when the child has closed its pipe."""
        while b"\n" not in self._buffer:
            if not select.select([self._answers], [], [], timeout_s)[0]:
                return None
            data = os.read(self._answers, 1 << 16)
            if not data:  # from here on select never waits
                time.sleep(timeout_s)
                return None
            self._buffer += data
        line, _, self._buffer = self._buffer.partition(b"\n")
        return line


def _close(*handles: int) -> None:
    for handle in handles:
        os.close(handle)


@functools.cache
def _scratch() -> tempfile.TemporaryDirectory[str]:
    """A folder for the short-lived files of all children, which are killed and remove nothing. It ends with us."""
    return tempfile.TemporaryDirectory(prefix="vouch-forked-")


# ---- in the child


def _child(
    settings: Settings,
    disk: LoopDisk | None,
    plant: Callable[[], None] | None,
    orders: int,
    answers: int,
    scratch: str,
) -> None:
    """Never returns: an exception must not unwind into the parent's copy of its own code."""
    code = 1
    try:
        tempfile.tempdir = scratch  # outside of the disk that is cut, and removed by the parent
        if plant is not None:
            plant()
        points = _Points(disk)
        parts = Parts(settings)
        _tell(answers, {"ready": True})
        for line in _lines(orders):
            order = json.loads(line)
            if order["name"] == "free":  # ask itself, until it is killed
                from benchmarks.faults.power import roam

                roam(parts, lambda told: _tell(answers, told), **order["arguments"])
            points.arm(order["strike"])
            _tell(answers, _performed(parts, order))
        code = 0
    except BaseException as error:  # noqa: BLE001 - whatever it is, the parent is told
        _tell(answers, {"broke": f"{type(error).__name__}: {error}"})
    finally:
        os._exit(code)


def _performed(parts: Parts, order: dict[str, Any]) -> Answer:
    try:
        return parts.perform(order["name"], order["arguments"])
    except VouchError as error:
        return {"refused": error.reason, "why": error.message}
    except OSError as error:  # the disk is gone
        return {"refused": "OS_ERROR", "why": str(error)}


def _tell(answers: int, value: Answer) -> None:
    os.write(answers, json.dumps(value).encode() + b"\n")


def _lines(handle: int) -> Any:
    with os.fdopen(handle, "rb") as file:
        yield from file


class _Points:
    """Counts fsyncs, renames and transactions of the request under way, and strikes at the armed one."""

    def __init__(self, disk: LoopDisk | None) -> None:
        self._disk, self._strike, self._left, self._root = disk, "", 0, disk.root if disk else Path()
        for name in ("fsync", "replace", "rename", "utime"):
            setattr(os, name, self._around(getattr(os, name)))
        sa.event.listen(sa.Engine, "begin", self._begin)
        sa.event.listen(sa.Engine, "after_cursor_execute", lambda *_: self._pass("kill", "cut"))
        sa.event.listen(sa.Engine, "commit", lambda _: self._pass("kill", "cut"))

    def arm(self, strike: list[Any] | None) -> None:
        self._strike, self._left = (str(strike[0]), int(strike[1])) if strike else ("", 0)

    def _around(self, function: Callable[..., Any]) -> Callable[..., Any]:
        def around(*arguments: Any, **options: Any) -> Any:
            self._pass("kill", "cut")
            result = function(*arguments, **options)
            self._pass("kill", "cut")
            return result

        return around

    def _begin(self, connection: sa.Connection) -> None:
        # A process is stopped before it takes the lock of the database: the other one would only wait for it.
        if connection.get_execution_options().get("vouch_write"):
            self._pass("stop")
        self._pass("kill", "cut")

    def _pass(self, *kinds: str) -> None:
        if self._strike not in kinds:
            return
        self._left -= 1
        if self._left >= 0:
            return
        strike, self._strike = self._strike, ""
        if strike == "stop":
            os.kill(os.getpid(), signal.SIGSTOP)
            return
        if strike == "cut" and self._disk is not None:
            self._disk.cut()
        os.kill(os.getpid(), signal.SIGKILL)
