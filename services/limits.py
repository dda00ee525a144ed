"""What the machine must allow a system before it starts."""

from __future__ import annotations

import contextlib
import resource

from vouch.errors import FailedPrecondition

FEWEST_FILES = 1024
WANTED_FILES = 65_536


def raise_open_files() -> None:
    """Allow as many open files as the hard limit does.

    Raises FailedPrecondition where that is too few: Ray would hang half-way.
    """
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    most = WANTED_FILES if hard == resource.RLIM_INFINITY else min(WANTED_FILES, hard)
    if max(soft, most) < FEWEST_FILES:
        raise FailedPrecondition(
            f"This process may have {most} open files and needs {FEWEST_FILES}: raise the limit with "
            f"`ulimit -n {FEWEST_FILES}`, or in the service's LimitNOFILE.",
            "FEW_OPEN_FILES",
        )
    if soft < most:
        with contextlib.suppress(ValueError, OSError):
            resource.setrlimit(resource.RLIMIT_NOFILE, (most, hard))
