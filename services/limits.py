"""Operating system limits that a system needs before it starts."""

from __future__ import annotations

import contextlib
import resource

from vouch.errors import FailedPrecondition

FEWEST_FILES = 1024
WANTED_FILES = 65_536


MOST_CONNECTIONS = 16_384
"""Of HAProxy, most of them idle. Ray Serve's own limit is 4,096: so many silent clients would lock out all others."""
SILENT_S = 60
"""Seconds after which HAProxy closes a connection that never made a request. Ray Serve waits for an hour."""
FILES_FOR_CONNECTION, FILES_BESIDE = 2.5, 64
"""HAProxy asks for two files and half a pipe for each connection, and for some more. It does not start with fewer."""


def open_files() -> int:
    """Maximum number of open files of this process and its children."""
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    return WANTED_FILES if hard == resource.RLIM_INFINITY else min(WANTED_FILES, hard)


def connections(files: int) -> int:
    """Connections at once that HAProxy can have with so many open files."""
    return max(1, min(MOST_CONNECTIONS, int((files - FILES_BESIDE) / FILES_FOR_CONNECTION)))


def raise_open_files() -> None:
    """Allow as many open files as the hard limit does.

    Raises FailedPrecondition where that is too few: Ray would hang half-way.
    """
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    most = open_files()
    if max(soft, most) < FEWEST_FILES:
        raise FailedPrecondition(
            f"This process may have {most} open files and needs {FEWEST_FILES}: raise the limit with "
            f"`ulimit -n {FEWEST_FILES}`, or in the service's LimitNOFILE.",
            "FEW_OPEN_FILES",
        )
    if soft < most:
        with contextlib.suppress(ValueError, OSError):
            resource.setrlimit(resource.RLIMIT_NOFILE, (most, hard))
