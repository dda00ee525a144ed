"""The engine: image requests in, results out, one thread that admits, denoises and retires.

Pure torch, no Ray. An image is a *slot*; slots of one model, step count and guidance share a batch. A slot keeps the
model that its request named, so a swap never touches work that has begun, and the old model is freed with its last
slot.
"""

from __future__ import annotations

import asyncio
import threading
import time
from collections import OrderedDict, deque
from collections.abc import AsyncGenerator, Callable
from dataclasses import dataclass, field
from typing import Protocol

import numpy as np

from services.threads import use_threads
from vouch.errors import Exhausted, Internal, Unavailable, VouchError

OnStep = Callable[[int, int], bool]


class Model(Protocol):
    """What the engine needs of a generator: prompts and seeds in, uint8 [N, H, W, 3] out."""

    def generate(
        self, prompts: list[str], seeds: list[int], steps: int, guidance: float, on_step: OnStep | None
    ) -> np.ndarray: ...


@dataclass(frozen=True)
class ImageRequest:
    """One image for each seed. `client` is who asks: waiting clients take turns."""

    model: Model
    prompt: str
    seeds: tuple[int, ...]
    steps: int
    guidance: float
    client: str = ""
    progress: bool = False


@dataclass(frozen=True)
class Progress:
    """Image `index` of the request has done `step` of `total` denoising steps."""

    index: int
    step: int
    total: int


@dataclass(frozen=True)
class Finished:
    """Image `index` of the request: uint8 [H, W, 3], seconds waited, seconds that its batch was computed."""

    index: int
    image: np.ndarray
    queued_s: float
    compute_s: float
    batch: int


@dataclass(frozen=True)
class Broken:
    """The request has failed; nothing more follows."""

    error: VouchError


Event = Progress | Finished | Broken
Deliver = Callable[[Event], None]


@dataclass(eq=False)
class Ticket:
    """A submitted request. `cancel()` may be called from any thread, any number of times."""

    request: ImageRequest
    deliver: Deliver
    cancelled: bool = field(default=False)

    def cancel(self) -> None:
        self.cancelled = True


@dataclass(frozen=True, eq=False)
class Slot:
    """One image on its way."""

    ticket: Ticket
    index: int
    since: float

    @property
    def key(self) -> tuple[int, int, float]:
        """Slots with equal keys can share a batch."""
        request = self.ticket.request
        return id(request.model), request.steps, request.guidance

    @property
    def seed(self) -> int:
        return self.ticket.request.seeds[self.index]


class _AbandonedError(Exception):
    """Nobody waits for this batch any more, or the engine stops."""


class Waiting:
    """Slots that wait, in one line per client. Not thread-safe: the engine calls it under its lock."""

    def __init__(self) -> None:
        self._lines: OrderedDict[str, deque[Slot]] = OrderedDict()
        self._count = 0

    def __len__(self) -> int:
        return self._count

    def add(self, slot: Slot) -> None:
        self._lines.setdefault(slot.ticket.request.client, deque()).append(slot)
        self._count += 1

    def take(self, limit: int) -> list[Slot]:
        """Up to `limit` slots that can share a batch, clients in turn; cancelled ones are dropped."""
        batch: list[Slot] = []
        while len(batch) < limit and (slot := self._next(batch[0].key if batch else None)):
            batch.append(slot)
        return batch

    def _next(self, key: tuple[int, int, float] | None) -> Slot | None:
        """The first slot that fits, of the client whose turn it is; it waits behind the others then."""
        for client in list(self._lines):
            line = self._lines[client] = self._without_cancelled(self._lines[client])
            if not line:
                del self._lines[client]
            elif (slot := next((slot for slot in line if key is None or slot.key == key), None)) is not None:
                line.remove(slot)
                self._count -= 1
                self._lines.move_to_end(client)
                return slot
        return None

    def _without_cancelled(self, line: deque[Slot]) -> deque[Slot]:
        if not any(slot.ticket.cancelled for slot in line):
            return line
        kept = deque(slot for slot in line if not slot.ticket.cancelled)
        self._count -= len(line) - len(kept)
        return kept


class Engine:
    """Runs image requests on one thread.

    max_batch: images denoised together. max_waiting: slots that may wait; a request beyond them is refused with
    `Exhausted`. threads: torch threads of the engine's thread (None: leave torch alone, as fakes want).
    """

    def __init__(self, *, max_batch: int = 8, max_waiting: int = 256, threads: int | None = None) -> None:
        self._max_batch = max_batch
        self._max_waiting = max_waiting
        self._threads = threads
        self._waiting = Waiting()
        self._running: list[Slot] = []
        self._changed = threading.Condition()
        self._stopping = False
        self._thread = threading.Thread(target=self._run, name="engine", daemon=True)
        self._thread.start()

    # ---- the outside: any thread

    def submit(self, request: ImageRequest, deliver: Deliver) -> Ticket:
        """Queue the request. `deliver` is called from the engine's thread and must not block.

        Raises Exhausted when the queue has no room for all its images.
        """
        ticket = Ticket(request, deliver)
        now = time.monotonic()
        with self._changed:
            if len(self._waiting) + len(request.seeds) > self._max_waiting:
                raise Exhausted(
                    f"{len(self._waiting)} images wait already and the queue holds {self._max_waiting}; "
                    "try again in a moment or ask for fewer images"
                )
            for index in range(len(request.seeds)):
                self._waiting.add(Slot(ticket, index, now))
            self._changed.notify()
        return ticket

    async def stream(self, request: ImageRequest) -> AsyncGenerator[Progress | Finished, None]:
        """Submit and yield events until every image is finished. Leaving early cancels the rest.

        Raises Exhausted at once, and whatever made the request fail.
        """
        loop = asyncio.get_running_loop()
        events: asyncio.Queue[Event] = asyncio.Queue()
        ticket = self.submit(request, _into(loop, events))
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
            return len(self._running), len(self._waiting)

    @property
    def alive(self) -> bool:
        return self._thread.is_alive()

    def stop(self, timeout_s: float = 10.0) -> None:
        """End the thread at the next denoising step; requests that are left fail with `Unavailable`."""
        with self._changed:
            self._stopping = True
            self._changed.notify()
        self._thread.join(timeout_s)

    # ---- the engine's thread

    def _run(self) -> None:
        if self._threads is not None:
            use_threads(self._threads)
        while batch := self._admit():
            self._denoise(batch)
            self._retire()
        self._refuse_the_rest()

    def _admit(self) -> list[Slot]:
        """Wait for work. Empty only when the engine stops."""
        with self._changed:
            while not self._stopping:
                if batch := self._waiting.take(self._max_batch):
                    self._running = batch
                    return batch
                self._changed.wait()
        return []

    def _denoise(self, batch: list[Slot]) -> None:
        started = time.monotonic()
        try:
            images = self._generate(batch)
        except _AbandonedError:
            self._refuse(batch)
            return
        except Exception as error:  # noqa: BLE001 - it belongs to the requests, the engine goes on
            self._blame(batch, error)
            return
        compute_s = time.monotonic() - started
        for slot, image in zip(batch, images, strict=True):
            if not slot.ticket.cancelled:
                slot.ticket.deliver(Finished(slot.index, image, started - slot.since, compute_s, len(batch)))

    def _generate(self, batch: list[Slot]) -> np.ndarray:
        request = batch[0].ticket.request

        def on_step(step: int, total: int) -> bool:
            self._report(batch, step, total)
            return not self._stopping and any(not slot.ticket.cancelled for slot in batch)

        prompts = [slot.ticket.request.prompt for slot in batch]
        seeds = [slot.seed for slot in batch]
        try:
            return request.model.generate(prompts, seeds, request.steps, request.guidance, on_step)
        except Exception:
            if self._stopping or all(slot.ticket.cancelled for slot in batch):
                raise _AbandonedError from None
            raise

    def _report(self, batch: list[Slot], step: int, total: int) -> None:
        for slot in batch:
            if slot.ticket.request.progress and not slot.ticket.cancelled:
                slot.ticket.deliver(Progress(slot.index, step, total))

    def _blame(self, batch: list[Slot], error: Exception) -> None:
        """Fail the request that broke the batch. Nobody knows which one it was, so each runs alone once."""
        if len(batch) > 1:
            for slot in batch:
                self._denoise([slot])
            return
        ticket = batch[0].ticket
        if not ticket.cancelled:
            ticket.deliver(Broken(_as_vouch_error(error)))
        ticket.cancel()

    def _retire(self) -> None:
        with self._changed:
            self._running = []

    def _refuse_the_rest(self) -> None:
        with self._changed:
            while left := self._waiting.take(self._max_waiting):
                self._refuse(left)

    def _refuse(self, slots: list[Slot]) -> None:
        for slot in slots:
            if not slot.ticket.cancelled:
                slot.ticket.cancel()
                slot.ticket.deliver(
                    Broken(Unavailable("the system is shutting down; try again when it is up"))
                )


def _as_vouch_error(error: Exception) -> VouchError:
    if isinstance(error, VouchError):
        return error
    return Internal(f"the model failed on this request ({type(error).__name__}: {error})")


def _into(loop: asyncio.AbstractEventLoop, events: asyncio.Queue[Event]) -> Deliver:
    def deliver(event: Event) -> None:
        if not loop.is_closed():
            loop.call_soon_threadsafe(events.put_nowait, event)

    return deliver
