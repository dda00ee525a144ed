"""The scorer: images in, scores out, one thread. Whatever waits when it is free becomes the next batch. No Ray."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field
from typing import Protocol

import numpy as np

from services.threads import use_threads
from vouch.errors import Exhausted, Internal, Unavailable, VouchError
from vouch.types.score import ImageScore
from vouch.types.scores import Scores

BATCH_PIXELS = (
    4_000_000  # in one forward pass: as floats they take twelve times as many bytes, twice while scaled
)


class RewardModel(Protocol):
    """What the scorer needs of a reward model: uint8 [N, H, W, 3] and N prompts in."""

    def score(self, images: np.ndarray, prompts: list[str]) -> Scores: ...


@dataclass(frozen=True, eq=False)
class Job:
    """One image, decoded: uint8 [H, W, 3]."""

    model: RewardModel
    pixels: np.ndarray
    prompt: str
    result: Future[ImageScore] = field(default_factory=Future)

    @property
    def area(self) -> int:
        """Pixels."""
        return self.pixels.shape[0] * self.pixels.shape[1]

    @property
    def key(self) -> tuple[int, tuple[int, ...]]:
        return id(self.model), self.pixels.shape


class Scorer:
    """Scores jobs on one thread.

    max_batch: images in one forward pass. max_waiting: images that may wait; more are refused with `Exhausted`.
    threads: torch threads of the scorer's thread (None: leave torch alone, as fakes want).
    """

    def __init__(self, *, max_batch: int = 64, max_waiting: int = 1024, threads: int | None = None) -> None:
        self._max_batch, self._max_waiting, self._threads = max_batch, max_waiting, threads
        self._waiting: deque[Job] = deque()
        self._changed = threading.Condition()
        self._stopping = False
        self._thread = threading.Thread(target=self._run, name="scorer", daemon=True)
        self._thread.start()

    @property
    def alive(self) -> bool:
        return self._thread.is_alive()

    def submit(
        self, model: RewardModel, images: Sequence[np.ndarray], prompts: Sequence[str]
    ) -> list[Future[ImageScore]]:
        """One future per image; a cancelled one is not computed. Raises Exhausted when they do not all fit."""
        jobs = [Job(model, pixels, prompt) for pixels, prompt in zip(images, prompts, strict=True)]
        with self._changed:
            if len(self._waiting) + len(jobs) > self._max_waiting:
                raise Exhausted(
                    f"{len(self._waiting)} images wait for their score already and the queue holds "
                    f"{self._max_waiting}; try again in a moment"
                )
            self._waiting.extend(jobs)
            self._changed.notify()
        return [job.result for job in jobs]

    def stop(self, timeout_s: float = 10.0) -> None:
        """End the thread after the batch that runs; jobs that are left fail with `Unavailable`."""
        with self._changed:
            self._stopping = True
            self._changed.notify()
        self._thread.join(timeout_s)

    def _run(self) -> None:
        if self._threads is not None:
            use_threads(self._threads)
        while batch := self._admit():
            self._score(batch)
        for job in self._waiting:
            job.result.set_exception(Unavailable("the system is shutting down; try again when it is up"))

    def _admit(self) -> list[Job]:
        """Wait for work that shares a model and a shape. Empty only when the scorer stops."""
        with self._changed:
            while not self._stopping:
                if batch := self._take():
                    return batch
                self._changed.wait()
        return []

    def _take(self) -> list[Job]:
        key = self._waiting[0].key if self._waiting else None
        batch: list[Job] = []
        most = (
            min(self._max_batch, max(1, BATCH_PIXELS // (self._waiting[0].area or 1))) if self._waiting else 0
        )
        while self._waiting and len(batch) < most and self._waiting[0].key == key:
            job = self._waiting.popleft()
            if job.result.set_running_or_notify_cancel():
                batch.append(job)
        return batch if batch or not self._waiting else self._take()

    def _score(self, batch: list[Job]) -> None:
        try:
            stacked = batch[0].pixels[None] if len(batch) == 1 else np.stack([job.pixels for job in batch])
            scores = batch[0].model.score(stacked, [job.prompt for job in batch])
        except Exception as error:  # noqa: BLE001 - it belongs to the jobs, the scorer goes on
            self._blame(batch, error)
            return
        for row, job in enumerate(batch):
            job.result.set_result(_item(scores, row))

    def _blame(self, batch: list[Job], error: Exception) -> None:
        """Nobody knows which image broke the batch, so each is scored alone once."""
        if len(batch) > 1:
            for job in batch:
                self._score([job])
        elif isinstance(error, VouchError):
            batch[0].result.set_exception(error)
        else:
            failure = Internal(f"the reward model failed on this image ({type(error).__name__}: {error})")
            batch[0].result.set_exception(failure)


def _item(scores: Scores, row: int) -> ImageScore:
    return ImageScore(
        score=float(scores.overall[row]),
        score_std=float(scores.std[row]),
        criterion_scores={name: float(values[row]) for name, values in scores.criteria.items()},
    )
