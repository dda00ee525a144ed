"""Finds and ends the processes of one system, which have a mark in their environment."""

from __future__ import annotations

import contextlib
import os
import secrets
import time
from collections.abc import Iterator

import psutil

MARK = "SERVICES_SYSTEM"
"""Environment variable whose value every process of a system inherits, and no other process has."""


def new_mark() -> str:
    return secrets.token_hex(16)


def marked(mark: str) -> list[psutil.Process]:
    """Every process of the system with this mark except the caller, with what they have started."""
    processes: dict[int, psutil.Process] = {}
    for process in psutil.process_iter():
        if process.pid not in processes and _has(process, mark):
            for one in _family(process):
                processes[one.pid] = one
    processes.pop(os.getpid(), None)
    return list(processes.values())


def end_all(mark: str, timeout_s: float = 6.0) -> list[psutil.Process]:
    """Kill every process with this mark, and what they start meanwhile. Returns what is alive after `timeout_s`."""
    deadline = time.monotonic() + timeout_s
    while processes := marked(mark):
        for process in processes:
            with contextlib.suppress(psutil.NoSuchProcess, psutil.AccessDenied):
                process.kill()
        psutil.wait_procs(processes, timeout=0.5)
        if time.monotonic() > deadline:
            return [process for process in marked(mark) if _is_alive(process)]
    return []


def _has(process: psutil.Process, mark: str) -> bool:
    try:
        return _is_alive(process) and process.environ().get(MARK) == mark
    except (psutil.Error, OSError):  # it has just ended, or belongs to another user
        return False


def _family(process: psutil.Process) -> Iterator[psutil.Process]:
    yield process
    with contextlib.suppress(psutil.NoSuchProcess):
        yield from filter(_is_alive, process.children(recursive=True))


def _is_alive(process: psutil.Process) -> bool:
    """A zombie is not: nothing runs in it, and only its parent can take it away."""
    try:
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False
