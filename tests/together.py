"""Two workers of one job as real processes, in a process group as Ray Train makes one."""

from __future__ import annotations

import multiprocessing
import tempfile
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from types import TracebackType
from typing import Any

import torch
from torch import distributed

from training.loop.worker_group import WorkerGroup


class Pair:
    """Two processes that stay for several jobs: to start them takes longer than most jobs do."""

    def __init__(self) -> None:
        self._folder = tempfile.TemporaryDirectory()
        self._jobs = 0
        spawn = multiprocessing.get_context("spawn")
        self._each = [ProcessPoolExecutor(1, mp_context=spawn) for _ in range(2)]

    def __enter__(self) -> Pair:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for process in self._each:
            process.shutdown()
        self._folder.cleanup()

    def __call__(self, work: Callable[..., Any], *given: Any) -> list[Any]:
        """What `work(group, *given)` returns in each of them. It has to be importable."""
        self._jobs += 1
        meeting = str(Path(self._folder.name) / f"meeting-{self._jobs}")
        started = [
            process.submit(_join, rank, meeting, work, given) for rank, process in enumerate(self._each)
        ]
        return [one.result(timeout=300) for one in started]


def _join(rank: int, meeting: str, work: Callable[..., Any], given: tuple[Any, ...]) -> Any:
    torch.set_num_threads(1)
    distributed.init_process_group("gloo", init_method=f"file://{meeting}", rank=rank, world_size=2)
    try:
        return work(WorkerGroup.here(), *given)
    finally:
        distributed.destroy_process_group()
