"""Ports for what is only spoken inside. Chosen fresh, so that two systems on one machine never meet."""

from __future__ import annotations

import contextlib
import random
import socket

LOWEST, HIGHEST = 20_000, 32_000  # below the range that kernels hand out to clients


def is_free(port: int, host: str = "") -> bool:
    """Whether nobody listens on this port ("" is every address)."""
    with contextlib.closing(socket.socket()) as probe:
        try:
            probe.bind((host, port))
        except OSError:
            return False
    return True


def free_range(count: int) -> int:
    """The first of `count` neighbouring free ports."""
    for _ in range(200):
        first = random.randrange(LOWEST, HIGHEST - count)
        if all(is_free(first + offset) for offset in range(count)):
            return first
    raise OSError(f"no {count} neighbouring free ports between {LOWEST} and {HIGHEST}")
