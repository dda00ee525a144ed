"""The engine: image requests in, images out, batched at the denoising step. Pure torch, no Ray.

One thread admits, denoises and retires until it is told to stop. An image is a *slot*: it joins a step when it is its
turn and leaves when its own last step is done, whatever the others do; while it is the turn of others, its latents
rest. Slots of one model are one batch; of several models, as during a rollout, each batch takes a step in turn. A slot
keeps the model that its request named, so a swap never touches work that has begun, and the old model is freed with
its last slot.
"""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import AsyncGenerator, Callable, Iterable, Sequence
from concurrent.futures import Executor, Future, ThreadPoolExecutor
from typing import Any

import torch

from services.generation.denoise import Encode, begin, denoise, finish, preview
from services.generation.line import Line
from services.generation.model import Model
from services.generation.observer import Observer
from services.generation.pace import Pace
from services.generation.slots import (
    Broken,
    Deliver,
    Event,
    Finished,
    Preview,
    Progress,
    Slot,
    Ticket,
)
from services.generation.whole import alike, draw_whole
from services.threads import use_threads
from vouch.errors import Exhausted, Internal, Unavailable, VouchError
from vouch.types.generation import GenerationRequest

STOPPING = "the system is shutting down; try again when it is up"


class Here(Executor):
    """Does what it is given at once, on the thread that gives it; raises what that raises."""

    def submit(self, work: Callable[..., Any], /, *arguments: Any, **more: Any) -> Future[Any]:
        done: Future[Any] = Future()
        done.set_result(work(*arguments, **more))
        return done


class Engine:
    """Runs image requests on one thread, and makes their pixels on another or, without a core for it, on the same.

    max_batch: slots, images denoised together. step_rows: rows of a step that is not worth making larger, see `Line`.
    max_waiting: images that may wait; a request beyond them is refused with `Exhausted`. threads: torch threads of the
    engine's thread (None: leave torch alone, as fakes want). encode: what becomes of pixels before they are handed
    out. observer: told what happens. beside: whether pixels are made on a thread of their own, with one core. Where
    the steps use every core anyway, that thread would take turns with them and hold all their threads up: pixels are
    made between two steps then, with all cores.
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
        beside: bool = True,
    ) -> None:
        self._most, self._threads = max_batch + max_waiting, threads
        self._encode, self._observer = encode, observer or Observer()
        self._line = Line(max_batch, step_rows)
        self._changed = threading.Condition()
        self._stopping = False
        self._steps = 0  # that have begun
        self._pace = Pace()
        self._decoder: Executor = (
            ThreadPoolExecutor(1, "decode", initializer=self._one_thread) if beside else Here()
        )
        self._thread = threading.Thread(target=self._run, name="engine", daemon=True)
        self._thread.start()

    # ---- the outside: any thread

    def submit(self, model: Model, request: GenerationRequest, deliver: Deliver) -> Ticket:
        """Queue the request for this model. `deliver` is called from the engine's threads and must not block.

        Raises Exhausted when the queue has no room for all its images, Unavailable when the engine has been told to
        stop.
        """
        ticket = Ticket(model, request, deliver)
        with self._changed:
            if self._stopping:
                raise Unavailable(STOPPING)
            self._let_go(self._line.drop_cancelled())
            self._check_room(len(request.seeds))
            self._line.join(ticket, time.monotonic(), self._steps)
            self._changed.notify()
        return ticket

    def _check_room(self, images: int) -> None:
        beyond = len(self._line) + images - self._most
        if beyond <= 0:
            return
        again_s = self._pace.seconds_for(beyond)
        raise Exhausted(
            f"{len(self._line)} images are under way or wait and there is room for {self._most}; "
            f"try again in about {again_s:.2g} s or ask for fewer images",
            retry_after_s=again_s,
        )

    async def stream(
        self, model: Model, request: GenerationRequest
    ) -> AsyncGenerator[Progress | Preview | Finished, None]:
        """Submit and yield events until every image is finished. Leaving early cancels the rest.

        Raises Exhausted at once, and whatever made the request fail.
        """
        loop = asyncio.get_running_loop()
        events: asyncio.Queue[Event] = asyncio.Queue()
        ticket = self.submit(model, request, _into(loop, events))
        remaining = len(request.seeds)
        try:
            while remaining:
                event = await events.get()
                if isinstance(event, Broken):
                    raise event.error
                remaining -= isinstance(event, Finished)
                yield event
        finally:
            ticket.cancel()

    def load(self) -> tuple[int, int]:
        """Images running and images waiting."""
        with self._changed:
            return self._line.running, self._line.waiting

    @property
    def alive(self) -> bool:
        return self._thread.is_alive()

    def stop(self, timeout_s: float = 10.0) -> None:
        """End the thread at the next denoising step; requests that are left fail with `Unavailable`.

        A step that takes longer than `timeout_s` is not waited for; the thread ends after it all the same.
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
        self._refuse_the_rest()
        self._decoder.shutdown()

    def _step(self) -> bool:
        """One step of whoever's turn it is. False when the engine stops."""
        # Not in the loop of the thread: what it holds while it waits would keep a version that is no longer served.
        taken = self._await_turns()
        if taken:
            self._begin([slot for slot in taken if not slot.begun])
            before = sum(slot.rows_left for slot in taken)
            self._advance_all(taken)
            self._retire(before - sum(slot.rows_left for slot in taken))
        return bool(taken)

    def _await_turns(self) -> list[Slot]:
        """Whose turn it is, as soon as there is anyone; nobody when the engine stops."""
        with self._changed:
            while not self._stopping:
                self._expire(self._line)
                self._let_go(self._line.drop_cancelled())
                if taken := self._line.next_step():
                    return taken
                self._changed.wait()
        return []

    def _begin(self, new: Sequence[Slot]) -> None:
        now = time.monotonic()
        for slot in new:
            slot.admitted = now
            steps = None if slot.free_since is None else self._steps - slot.free_since
            self._observer.admitted(now - slot.since, steps)
            with self._observer.stage("begin"):
                self._guarded([slot], lambda slots: begin(slots[0]))

    def _advance_all(self, taken: Sequence[Slot]) -> None:
        started = time.perf_counter()
        self._steps += 1
        for batch in _by_model(taken):
            rows = sum(slot.rows for slot in batch)
            with self._observer.stage("denoise"):
                self._advance(batch)
            self._observer.stepped(len(batch), rows)
        self._pace.busy(time.perf_counter() - started)

    def _advance(self, batch: list[Slot]) -> None:
        """One step of the batch, or all of them where the model can do no less."""
        if batch[0].model.stepwise:
            self._guarded(batch, denoise)
            self._report(batch)
            self._preview(batch)
            return
        for mates in alike(batch):
            self._guarded(mates, lambda slots: draw_whole(slots, self._still_wanted, self._encode))

    def _still_wanted(self, slots: Sequence[Slot]) -> bool:
        """Asked between the steps of images that are drawn whole."""
        self._report(slots)
        self._expire(slots)
        return not self._stopping and any(not slot.ticket.cancelled for slot in slots)

    def _report(self, slots: Sequence[Slot]) -> None:
        for slot in slots:
            if slot.ticket.request.progress:
                slot.ticket.tell(Progress(slot.index, slot.step, slot.total))

    def _preview(self, slots: Sequence[Slot]) -> None:
        for slot in slots:
            if slot.wants_preview:
                slot.previewing, slot.previewed = True, slot.step
                self._decoder.submit(self._show, slot, slot.x0, slot.step)

    def _show(self, slot: Slot, x0: torch.Tensor, step: int) -> None:
        self._guarded([slot], lambda slots: preview(slots[0], x0, step, self._encode))

    def _guarded(self, batch: list[Slot], work: Callable[[Sequence[Slot]], None]) -> None:
        """Do the work; when it fails, find the slot that broke it by doing it for each alone, and fail its request."""
        try:
            work(batch)
        except Exception as error:  # noqa: BLE001 - it belongs to the requests, the engine goes on
            if len(batch) > 1:
                for slot in batch:
                    self._guarded([slot], work)
            else:
                batch[0].ticket.fail(_as_vouch_error(error))

    def _retire(self, rows: int) -> None:
        """Let go of what is done, cancelled or broken; the pixels of what is done are another thread's work."""
        with self._changed:
            self._expire(self._line)
            done = self._line.drop_done()
            self._let_go(self._line.drop_cancelled())
            self._line.worked(rows)
            self._pace.done(len(done))
        for batch in _by_model([slot for slot in done if slot.model.stepwise]):
            self._decoder.submit(self._guarded, batch, self._finish)

    def _finish(self, slots: Sequence[Slot]) -> None:
        with self._observer.stage("decode"):
            finish(slots, self._encode)

    def _expire(self, slots: Iterable[Slot]) -> None:
        now = time.monotonic()
        for slot in slots:
            slot.ticket.expire(now)

    def _let_go(self, slots: Sequence[Slot]) -> None:
        for slot in slots:
            self._observer.evicted(slot.ticket.why)

    def _one_thread(self) -> None:
        if self._threads is not None:
            use_threads(1)

    def _refuse_the_rest(self) -> None:
        error = Unavailable(STOPPING)
        with self._changed:
            left = self._line.clear()
        for slot in left:
            slot.ticket.fail(error)
        self._let_go(left)


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


def _into(loop: asyncio.AbstractEventLoop, events: asyncio.Queue[Event]) -> Deliver:
    def deliver(event: Event) -> None:
        if not loop.is_closed():
            loop.call_soon_threadsafe(events.put_nowait, event)

    return deliver
