"""The engine: image requests in, images out, with continuous batching of denoising steps. Pure torch, no Ray.

One thread admits, denoises and retires images until it is stopped. Each image is a *slot*. The step scheduler chooses
the slots of every step; a slot leaves after its own last step, whatever the others do. The slots of one model form one
batch; with several models, as during a rollout, each batch takes its step in turn. A slot keeps the model that its
request named, so a swap never affects images that have begun, and the old model is freed with its last slot.
"""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import AsyncGenerator, Callable, Iterable, Sequence
from concurrent.futures import Executor, Future, ThreadPoolExecutor
from typing import Any, TypeVar

import torch

from services.generation.denoise import Encode, begin, denoise, finish, preview
from services.generation.fallback import draw_by_pipeline, group_by_settings
from services.generation.model import Model
from services.generation.observer import Observer
from services.generation.scheduler import StepScheduler
from services.generation.slots import (
    Deliver,
    Event,
    Failed,
    Finished,
    Preview,
    Slot,
    StepProgress,
    Ticket,
)
from services.generation.throughput import ThroughputEstimator
from services.threads import use_threads
from vouch.errors import Exhausted, Internal, Unavailable, VouchError
from vouch.types.generation import GenerationRequest

T = TypeVar("T")

HEADROOM = 1.5
"""Safety factor of the estimated wait for other requests. At five times the load and a deadline of 30 images, 1 kept
0.5 to 0.8 of the best goodput and 1.5 kept 0.9; without the check 0.1 was left."""

STOPPING = "the system is shutting down; try again when it is up"


class InlineExecutor(Executor):
    """Runs work at once, on the calling thread, and raises its exceptions there."""

    def submit(self, work: Callable[..., T], /, *args: Any, **kwargs: Any) -> Future[T]:
        future: Future[T] = Future()
        future.set_result(work(*args, **kwargs))
        return future


class Engine:
    """Denoises image requests on one thread and decodes their latents on another.

    Args:
        max_batch: slots: images denoised together.
        step_rows: rows of a batch beyond which a row hardly gets cheaper, see `StepScheduler`.
        max_waiting: images that may wait for a slot. A request beyond them is refused with `Exhausted`.
        threads: torch threads of the engine's thread. None leaves torch's setting alone.
        encode: encodes pixels, uint8 [H, W, 3], for delivery.
        observer: receives the engine's events.
        background: whether latents are decoded on a second thread with one core. Where the steps use every core, that
            thread would preempt one of theirs and delay all: False decodes between two steps, with all cores.
    """

    def __init__(
        self,
        *,
        max_batch: int = 8,
        step_rows: int = 16,
        max_waiting: int = 256,
        threads: int | None = None,
        encode: Encode = lambda image: image,
        observer: Observer | None = None,
        background: bool = True,
    ) -> None:
        self._capacity, self._threads = max_batch + max_waiting, threads
        self._encode, self._observer = encode, observer or Observer()
        self._scheduler = StepScheduler(max_batch, step_rows)
        self._changed = threading.Condition()
        self._stopping = False
        self._steps = 0  # begun so far
        self._throughput = ThroughputEstimator()
        self._decoder: Executor = (
            ThreadPoolExecutor(1, "decode", initializer=self._use_one_thread)
            if background
            else InlineExecutor()
        )
        self._thread = threading.Thread(target=self._run, name="engine", daemon=True)
        self._thread.start()

    # ---- public: any thread

    def submit(self, model: Model, request: GenerationRequest, deliver: Deliver) -> Ticket:
        """Queue the request for this model. `deliver` is called from the engine's threads and must not block.

        Raises:
            Exhausted: the queue has no room for all its images, or is so long that they would miss their deadline.
            Unavailable: the engine is stopping.
        """
        ticket = Ticket(model, request, deliver)
        with self._changed:
            if self._stopping:
                raise Unavailable(STOPPING)
            self._report_evicted(self._scheduler.remove_cancelled())
            self._check_room(len(request.seeds))
            self._scheduler.add(ticket, time.monotonic(), self._steps)
            self._check_time(ticket)
            self._changed.notify()
        return ticket

    def _check_room(self, images: int) -> None:
        excess = len(self._scheduler) + images - self._capacity
        if excess <= 0:
            return
        retry_after_s = self._throughput.seconds_for(excess)
        raise Exhausted(
            f"{len(self._scheduler)} images are under way or wait and there is room for {self._capacity}; "
            f"try again in about {retry_after_s:.2g} s or ask for fewer images",
            retry_after_s=retry_after_s,
        )

    def _check_time(self, ticket: Ticket) -> None:
        """Refuse a request that would miss its deadline only because of others: to start it would only delay them."""
        left_s = ticket.deadline - time.monotonic()
        alone_s = self._throughput.seconds_for_rows(ticket.rows)
        done_s = self._throughput.seconds_for_rows(self._scheduler.rows_until_done(ticket))
        wait_s = max(0.0, done_s - alone_s)
        if alone_s + HEADROOM * wait_s <= left_s or alone_s > left_s:
            return
        ticket.cancel("exhausted")
        self._scheduler.remove_cancelled()
        raise Exhausted(
            f"requests before this one take about {wait_s:.2g} s and its deadline is in {left_s:.2g} s; retry later "
            "or allow more time",
            retry_after_s=alone_s + HEADROOM * wait_s - left_s,
        )

    async def stream(
        self, model: Model, request: GenerationRequest
    ) -> AsyncGenerator[StepProgress | Preview | Finished, None]:
        """Submit and yield events until every image is finished. Closing the stream early cancels the rest.

        Raises:
            Exhausted: the queue is full.
            VouchError: the request failed.
        """
        loop = asyncio.get_running_loop()
        events: asyncio.Queue[Event] = asyncio.Queue()
        ticket = self.submit(model, request, _deliver_to(loop, events))
        remaining = len(request.seeds)
        try:
            while remaining:
                event = await events.get()
                if isinstance(event, Failed):
                    raise event.error
                remaining -= isinstance(event, Finished)
                yield event
        finally:
            ticket.cancel()

    def load(self) -> tuple[int, int]:
        """Images running and images waiting."""
        with self._changed:
            return self._scheduler.running, self._scheduler.waiting

    @property
    def alive(self) -> bool:
        return self._thread.is_alive()

    def stop(self, timeout_s: float = 10.0) -> None:
        """End the thread at the next denoising step; unfinished requests fail with `Unavailable`.

        Returns after `timeout_s` seconds at the latest. A longer step ends the thread later.
        """
        with self._changed:
            self._stopping = True
            self._changed.notify()
        self._thread.join(timeout_s)

    # ---- the engine's thread

    def _run(self) -> None:
        if self._threads is not None:
            use_threads(self._threads)
        with torch.inference_mode():
            while self._step():
                pass
        self._fail_unfinished()
        self._decoder.shutdown()

    def _step(self) -> bool:
        """One step of the scheduled slots. False when the engine stops."""
        # A function of its own: local variables of the waiting loop would keep a version that is no longer served.
        batch = self._await_batch()
        if batch:
            started = time.perf_counter()
            self._begin([slot for slot in batch if not slot.begun])
            rows_before = sum(slot.rows_left for slot in batch)
            self._advance_all(batch)
            rows = rows_before - sum(slot.rows_left for slot in batch)
            self._retire(rows)
            self._throughput.add_rows(rows, time.perf_counter() - started)
        return bool(batch)

    def _await_batch(self) -> list[Slot]:
        """Wait for the slots of the next step. Empty when the engine stops."""
        with self._changed:
            while not self._stopping:
                self._expire(self._scheduler)
                self._report_evicted(self._scheduler.remove_cancelled())
                if batch := self._scheduler.next_batch():
                    return batch
                self._changed.wait()
        return []

    def _begin(self, slots: Sequence[Slot]) -> None:
        now = time.monotonic()
        for slot in slots:
            slot.admitted = now
            steps = None if slot.free_since is None else self._steps - slot.free_since
            self._observer.admitted(now - slot.since, steps)
            with self._observer.stage("begin"):
                self._guarded([slot], lambda slots: begin(slots[0]))

    def _advance_all(self, slots: Sequence[Slot]) -> None:
        started = time.perf_counter()
        self._steps += 1
        for batch in _by_model(slots):
            rows = sum(slot.rows for slot in batch)
            with self._observer.stage("denoise"):
                self._advance(batch)
            self._observer.stepped(len(batch), rows)
        self._throughput.add_busy(time.perf_counter() - started)

    def _advance(self, batch: list[Slot]) -> None:
        """One step of the batch, or whole images if the model has no table of coefficients."""
        if batch[0].model.stepwise:
            self._guarded(batch, denoise)
            self._report(batch)
            self._preview(batch)
            return
        for group in group_by_settings(batch):
            self._guarded(group, lambda slots: draw_by_pipeline(slots, self._still_wanted, self._encode))

    def _still_wanted(self, slots: Sequence[Slot]) -> bool:
        """Called between the steps of the diffusers pipeline."""
        self._report(slots)
        self._expire(slots)
        return not self._stopping and any(not slot.ticket.cancelled for slot in slots)

    def _report(self, slots: Sequence[Slot]) -> None:
        for slot in slots:
            if slot.ticket.request.progress:
                slot.ticket.send(StepProgress(slot.index, slot.step, slot.total))

    def _preview(self, slots: Sequence[Slot]) -> None:
        for slot in slots:
            if slot.wants_preview:
                slot.previewing, slot.previewed = True, slot.step
                self._decoder.submit(self._decode_preview, slot, slot.x0, slot.step)

    def _decode_preview(self, slot: Slot, x0: torch.Tensor, step: int) -> None:
        self._guarded([slot], lambda slots: preview(slots[0], x0, step, self._encode))

    def _guarded(self, batch: list[Slot], work: Callable[[Sequence[Slot]], None]) -> None:
        """Do the work. When it raises, repeat it slot by slot and fail only the requests that raise again."""
        try:
            work(batch)
        except Exception as error:  # noqa: BLE001 - it fails the request, never the engine
            if len(batch) > 1:
                for slot in batch:
                    self._guarded([slot], work)
            else:
                batch[0].ticket.fail(_as_vouch_error(error))

    def _retire(self, rows: int) -> None:
        """Remove slots that are done, cancelled or failed, and hand those that are done to the decoder."""
        with self._changed:
            self._expire(self._scheduler)
            done = self._scheduler.remove_done()
            self._report_evicted(self._scheduler.remove_cancelled())
            self._scheduler.advance(rows)
            self._throughput.add_images(len(done))
        for batch in _by_model([slot for slot in done if slot.model.stepwise]):
            self._decoder.submit(self._guarded, batch, self._finish)

    def _finish(self, slots: Sequence[Slot]) -> None:
        with self._observer.stage("decode"):
            finish(slots, self._encode)

    def _expire(self, slots: Iterable[Slot]) -> None:
        now = time.monotonic()
        for slot in slots:
            slot.ticket.expire(now)

    def _report_evicted(self, slots: Sequence[Slot]) -> None:
        for slot in slots:
            self._observer.evicted(slot.ticket.eviction_reason)

    def _use_one_thread(self) -> None:
        if self._threads is not None:
            use_threads(1)

    def _fail_unfinished(self) -> None:
        error = Unavailable(STOPPING)
        with self._changed:
            slots = self._scheduler.clear()
        for slot in slots:
            slot.ticket.fail(error)
        self._report_evicted(slots)


def _by_model(slots: Sequence[Slot]) -> list[list[Slot]]:
    groups: dict[int, list[Slot]] = {}
    for slot in slots:
        if not slot.ticket.cancelled:
            groups.setdefault(id(slot.model), []).append(slot)
    return list(groups.values())


def _as_vouch_error(error: Exception) -> VouchError:
    if isinstance(error, VouchError):
        return error
    return Internal(f"the model failed on this request ({type(error).__name__}: {error})")


def _deliver_to(loop: asyncio.AbstractEventLoop, events: asyncio.Queue[Event]) -> Deliver:
    def deliver(event: Event) -> None:
        if not loop.is_closed():
            loop.call_soon_threadsafe(events.put_nowait, event)

    return deliver
