"""How much memory a piece of work really took: the forecast is held against it."""

from __future__ import annotations

import contextlib
from pathlib import Path

import torch

STATUS = Path("/proc/self/status")
RESET = Path("/proc/self/clear_refs")


class PeakMemory:
    """Counts from where it is made. On a GPU what PyTorch holds there; else what is resident, on Linux alone."""

    def __init__(self, device: str) -> None:
        self._on_gpu = device != "cpu"
        if self._on_gpu:
            torch.cuda.reset_peak_memory_stats()
            self._before = int(torch.cuda.memory_allocated())
            return
        with contextlib.suppress(OSError):
            RESET.write_text("5", "utf-8")  # the kernel forgets the highest so far
        self._before = _status("VmRSS")

    def taken(self) -> int:
        """Bytes at the highest point since; 0 where nobody counts."""
        highest = int(torch.cuda.max_memory_allocated()) if self._on_gpu else _status("VmHWM")
        return max(0, highest - self._before)


def _status(name: str) -> int:
    try:
        lines = STATUS.read_text("utf-8").splitlines()
    except OSError:
        return 0
    return next((int(line.split()[1]) * 1024 for line in lines if line.startswith(f"{name}:")), 0)
