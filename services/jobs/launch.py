"""Becomes another program that is nice to the others and dies with its parent: a training process, or HAProxy.

python -m services.jobs.launch NICENESS PARENT_PID COMMAND...
"""

from __future__ import annotations

import ctypes
import os
import signal
import sys

PR_SET_PDEATHSIG = 1


def main(arguments: list[str]) -> None:
    """Never returns."""
    niceness, parent, command = int(arguments[0]), int(arguments[1]), arguments[2:]
    _die_with(parent)
    os.nice(niceness)
    os.execv(command[0], command)  # noqa: S606 - the runner's own command, no shell


def _die_with(parent: int) -> None:
    """Linux only; elsewhere the runner's `stop` has to do."""
    if sys.platform != "linux":
        return
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:  # it died before we asked
        os._exit(1)


if __name__ == "__main__":
    main(sys.argv[1:])
