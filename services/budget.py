"""Budgets of a scarce resource, such as bytes or pixels in memory."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager

from vouch.errors import Exhausted

RETRY_S = 1.0


class WeightedSemaphore:
    """A semaphore with weights: amounts held at once sum to at most `most`; waiters are served in FIFO order.

    `most_waiting`: amounts that may wait together; a request beyond them is refused with Exhausted. One event loop.
    """

    def __init__(self, most: int, most_waiting: int, what: str) -> None:
        self._free, self._most, self._most_waiting, self._what = most, most, most_waiting, what
        self._waiting: deque[tuple[int, asyncio.Future[None]]] = deque()

    @asynccontextmanager
    async def hold(self, amount: int) -> AsyncIterator[None]:
        """Hold `amount` (all there is, where it is larger) for the length of the block. Raises Exhausted."""
        amount = min(amount, self._most)
        await self._take(amount)
        try:
            yield
        finally:
            self._give(amount)

    async def _take(self, amount: int) -> None:
        if not self._waiting and amount <= self._free:
            self._free -= amount
            return
        waiting = sum(size for size, turn in self._waiting if not turn.cancelled())
        if waiting + amount > self._most_waiting:
            raise Exhausted(
                f"Too many {self._what} are under way; try again in a second.", retry_after_s=RETRY_S
            )
        turn: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting.append((amount, turn))
        try:
            await turn
        except asyncio.CancelledError:
            # Where its turn had come at this very moment, the amount goes back.
            self._give(0 if turn.cancelled() else amount)
            raise

    def _give(self, amount: int) -> None:
        self._free += amount
        while self._waiting and (self._waiting[0][1].cancelled() or self._waiting[0][0] <= self._free):
            size, turn = self._waiting.popleft()
            if not turn.cancelled():
                self._free -= size
                turn.set_result(None)


def parts(amounts: Sequence[int], most: int) -> Iterator[slice]:
    """Groups of neighbours whose amounts sum to at most `most`; a larger one is a group of its own."""
    start, held = 0, 0
    for position, amount in enumerate(amounts):
        if held + amount > most and position > start:
            yield slice(start, position)
            start, held = position, 0
        held += amount
    if start < len(amounts):
        yield slice(start, len(amounts))
