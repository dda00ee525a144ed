"""Sends requests to a server and notes what became of each."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Iterator, Sequence
from dataclasses import dataclass

from benchmarks.serving.asks import Ask
from benchmarks.serving.trace import Arrival

Send = Callable[[Ask], Awaitable[Sequence[bytes]]]
"""Returns the encoded images; raises whatever the server's client raises."""
PNG = b"\x89PNG\r\n\x1a\n"
PAUSE_S = 0.1  # of a closed loop after a refusal: it is to press, not to spin


@dataclass(frozen=True)
class Outcome:
    """Seconds from when the request was due, not from when there was time to send it; None without an answer."""

    at_s: float
    ask: Ask
    took_s: float | None
    error: str = ""


class Notes:
    """Outcomes on one clock."""

    def __init__(self) -> None:
        self._began = time.monotonic()
        self.outcomes: list[Outcome] = []
        self.ended_s = 0.0  # when the last one was answered or abandoned

    @property
    def now_s(self) -> float:
        return time.monotonic() - self._began

    async def send(self, send: Send, ask: Ask, at_s: float) -> bool:
        """Whether it was answered as asked. Cancelled is abandoned, and noted too."""
        error = "abandoned"
        try:
            error = _wrong(ask, await send(ask))
        except Exception as failure:  # noqa: BLE001 - whatever a client raises, its request has failed
            error = f"{type(failure).__name__}: {failure}"
        finally:
            self.ended_s = self.now_s
            self.outcomes.append(Outcome(at_s, ask, None if error else self.ended_s - at_s, error))
        return not error


async def open_loop(send: Send, arrivals: Sequence[Arrival], *, grace_s: float) -> Notes:
    """Every request when it is due. What has no answer `grace_s` after the last one was due is abandoned."""
    notes = Notes()

    async def one(arrival: Arrival) -> None:
        await asyncio.sleep(arrival.at_s - notes.now_s)
        await notes.send(send, arrival.ask, arrival.at_s)

    tasks = [asyncio.create_task(one(arrival)) for arrival in arrivals]
    last_s = max((arrival.at_s for arrival in arrivals), default=0.0)
    if tasks:
        _, late = await asyncio.wait(tasks, timeout=last_s + grace_s)
        await _end(late)
    return notes


async def closed_loop(send: Send, asks: Iterator[Ask], *, outstanding: int, seconds: float) -> Notes:
    """So many requests under way at any time. What is under way after `seconds` is broken off, and left out."""
    notes = Notes()

    async def one() -> None:
        for ask in asks:
            if not await notes.send(send, ask, notes.now_s):
                await asyncio.sleep(PAUSE_S)

    tasks = [asyncio.create_task(one()) for _ in range(outstanding)]
    await asyncio.wait(tasks, timeout=seconds)
    answered = list(notes.outcomes)
    await _end(tasks)
    notes.outcomes = answered
    return notes


async def in_turn(send: Send, asks: Sequence[Ask], *, outstanding: int, timeout_s: float) -> None:
    """A few requests that nobody measures. TimeoutError when they take too long."""
    left = iter(asks)

    async def one() -> None:
        for ask in left:
            await Notes().send(send, ask, 0.0)

    await asyncio.wait_for(asyncio.gather(*(one() for _ in range(outstanding))), timeout_s)


async def _end(tasks: Sequence[asyncio.Task[None]] | set[asyncio.Task[None]]) -> None:
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)


def _wrong(ask: Ask, images: Sequence[bytes]) -> str:
    """What is not as it was asked for; "" is nothing."""
    if len(images) != ask.count:
        return f"{len(images)} images instead of {ask.count}"
    return "" if all(image.startswith(PNG) for image in images) else "an image that is no PNG"
