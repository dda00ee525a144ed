"""How the machine's cores are shared out. Ray sets every replica's torch to one thread, so we say it ourselves."""

from __future__ import annotations

import os


def cores() -> int:
    """Cores that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def share(fraction: float) -> int:
    """Threads for a replica that may use this fraction of the machine, at least one."""
    return max(1, int(cores() * fraction))
