"""Constant load: one request every so many seconds, whatever became of those before (an open loop).

A closed loop would wait while the system is slow, and so ask least when it hurts most.
"""

from __future__ import annotations

import asyncio
import itertools
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType

import vouch
from vouch.client import AsyncClient
from vouch.errors import Exhausted, VouchError
from vouch.types.generation import GenerateImagesResponse


@dataclass(frozen=True)
class Order:
    """What is asked for: one image. request_id: "" leaves it to the client."""

    prompt: str
    seed: int
    steps: int
    request_id: str = ""


@dataclass(frozen=True)
class Sample:
    """What became of one request. Times are of time.monotonic(), `data` is the encoded image."""

    order: Order
    began: float
    ended: float
    error: str = ""
    retry_after_s: float | None = None  # what a refusal says of it
    version: str = ""  # digest that the reply as a whole names
    image_version: str = ""  # digest that its image names
    engine_s: float = 0.0
    data: bytes = b""

    @property
    def seconds(self) -> float:
        return self.ended - self.began

    def overlaps(self, begin: float, end: float) -> bool:
        return self.began < end and self.ended > begin


class ConstantLoad:
    """Sends orders in turn from a thread of its own, between `with` and its end; then waits for the last reply.

    state: folder of the system. every_s: seconds from one request to the next.
    """

    def __init__(
        self, state: Path, orders: Sequence[Order], *, every_s: float, timeout_s: float = 120.0
    ) -> None:
        self._state, self._orders, self._every_s, self._timeout_s = state, orders, every_s, timeout_s
        self._samples: list[Sample] = []
        self._stop = threading.Event()
        self._failure: BaseException | None = None
        self._thread = threading.Thread(target=self._main, name="load", daemon=True)

    def __enter__(self) -> ConstantLoad:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.end()
        self._thread.join()
        if self._failure is not None and error is None:
            raise RuntimeError("the load could not be kept up") from self._failure

    def end(self) -> None:
        """Send no more. The block still waits for the last reply."""
        self._stop.set()

    @property
    def samples(self) -> list[Sample]:
        """Those that have ended, in the order of their ends."""
        return list(self._samples)

    def _main(self) -> None:
        try:
            asyncio.run(self._send_all())
        except BaseException as failure:  # noqa: BLE001 - it belongs to the thread that waits for us
            self._failure = failure

    async def _send_all(self) -> None:
        pending: set[asyncio.Task[None]] = set()
        async with vouch.connect_async(state=self._state, role="client") as client:
            due = time.monotonic()
            for order in itertools.cycle(self._orders):
                if self._stop.is_set():
                    break
                task = asyncio.create_task(self._send(client, order))
                pending.add(task)
                task.add_done_callback(pending.discard)
                due += self._every_s
                await asyncio.sleep(max(0.0, due - time.monotonic()))
            await asyncio.gather(*pending)

    async def _send(self, client: AsyncClient, order: Order) -> None:
        began = time.monotonic()
        try:
            reply = await client.generate_images(
                order.prompt,
                count=1,
                seed=order.seed,
                steps=order.steps,
                score=False,
                timeout_s=self._timeout_s,
                request_id=order.request_id,
            )
        except VouchError as error:
            sentence = f"{type(error).__name__}: {error}"
            hint = error.retry_after_s if isinstance(error, Exhausted) else None
            failed = Sample(order, began, time.monotonic(), error=sentence, retry_after_s=hint)
            self._samples.append(failed)
            return
        ended, image = time.monotonic(), reply.images[0]
        named = {"version": reply.generator_version, "image_version": image.generator_version}
        self._samples.append(Sample(order, began, ended, **named, engine_s=engine_s(reply), data=image.data))


def saturated_s(state: Path, orders: Sequence[Order], *, requests: int = 64, outstanding: int = 24) -> float:
    """Seconds for each request when so many are always under way: what the system can do."""
    return asyncio.run(
        _saturated_s(state, list(itertools.islice(itertools.cycle(orders), requests)), outstanding)
    )


async def _saturated_s(state: Path, orders: Sequence[Order], outstanding: int) -> float:
    room = asyncio.Semaphore(outstanding)
    async with vouch.connect_async(state=state, role="client") as client:

        async def send(order: Order) -> None:
            async with room:
                await client.generate_images(order.prompt, seed=order.seed, steps=order.steps, score=False)

        began = time.monotonic()
        await asyncio.gather(*map(send, orders))
        return (time.monotonic() - began) / len(orders)


def engine_s(reply: GenerateImagesResponse) -> float:
    """Seconds that the engine itself says it took."""
    return reply.summary.engine_s if reply.summary else 0.0
