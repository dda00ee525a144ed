"""Threads per replica, from the machine's cores. Ray would set torch to one thread in every replica."""

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


def spin_briefly() -> None:
    """Let idle OpenMP threads sleep soon instead of spinning for milliseconds. Call it before torch is imported.

    Good where operations are large and other threads of the process have work. A small network is slower that way, and
    much slower beside training, which takes the cores of threads that sleep.
    """
    os.environ.setdefault("GOMP_SPINCOUNT", "20000")


def use_threads(count: int) -> None:
    """How many threads torch uses when the calling thread computes.

    Only one thread of a process should use several: a second team makes more OpenMP threads than there are cores,
    and OpenMP then lets all of them sleep at the end of every operation, which doubles the time of a small network.
    """
    import torch

    torch.set_num_threads(count)
    torch.get_num_threads()  # a thread's first reading takes over what any thread has set last: here, its own
