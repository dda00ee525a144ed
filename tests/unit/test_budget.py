"""What is scarce is shared out in the order of asking, and comes back whatever becomes of the work."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.budget import WeightedSemaphore, parts
from vouch.errors import Exhausted


def run(work: Coroutine[Any, Any, None]) -> None:
    asyncio.run(asyncio.wait_for(work, 10))


async def settled() -> None:
    """Let every task go as far as it can."""
    for _ in range(10):
        await asyncio.sleep(0)


class Work:
    """Pieces of work that hold an amount until they are told to end."""

    def __init__(self, budget: WeightedSemaphore) -> None:
        self.budget, self.running = budget, list[str]()
        self._ends: dict[str, asyncio.Event] = {}
        self.tasks: dict[str, asyncio.Task[None]] = {}

    async def start(self, name: str, amount: int) -> None:
        self._ends[name] = asyncio.Event()
        self.tasks[name] = asyncio.create_task(self._hold(name, amount))
        await settled()

    async def _hold(self, name: str, amount: int) -> None:
        async with self.budget.hold(amount):
            self.running.append(name)
            await self._ends[name].wait()
            self.running.remove(name)

    async def end(self, name: str) -> None:
        self._ends[name].set()
        await settled()


def test_no_more_is_held_than_there_is_and_who_came_first_is_first() -> None:
    async def scene() -> None:
        work = Work(WeightedSemaphore(10, 100, "images"))
        await work.start("a", 6)
        await work.start("b", 8)
        await work.start("c", 1)  # there would be room, but b came before
        assert work.running == ["a"]
        await work.end("a")
        assert work.running == ["b", "c"]

    run(scene())


def test_more_than_there_is_takes_all_there_is() -> None:
    async def scene() -> None:
        work = Work(WeightedSemaphore(10, 100, "images"))
        await work.start("huge", 1000)
        await work.start("small", 1)
        assert work.running == ["huge"]
        await work.end("huge")
        assert work.running == ["small"]

    run(scene())


def test_where_too_much_waits_the_next_is_told_when_to_come_again() -> None:
    async def scene() -> None:
        work = Work(WeightedSemaphore(10, 15, "images"))
        await work.start("a", 10)
        await work.start("b", 10)
        with pytest.raises(Exhausted, match="Too many images") as caught:
            async with work.budget.hold(10):
                pass
        assert caught.value.retry_after_s == 1.0
        work.tasks["a"].cancel()
        work.tasks["b"].cancel()

    run(scene())


def test_who_gives_up_waiting_leaves_room_for_those_behind() -> None:
    async def scene() -> None:
        work = Work(WeightedSemaphore(10, 100, "images"))
        await work.start("a", 5)
        await work.start("b", 10)
        await work.start("c", 5)
        work.tasks["b"].cancel()
        await settled()
        assert work.running == ["a", "c"]

    run(scene())


def test_what_fails_gives_back_what_it_held() -> None:
    async def scene() -> None:
        budget = WeightedSemaphore(10, 0, "images")
        for _ in range(3):
            with pytest.raises(RuntimeError):
                async with budget.hold(10):
                    raise RuntimeError("broke")

    run(scene())


def test_who_is_cancelled_at_the_moment_of_its_turn_gives_it_back() -> None:
    async def scene() -> None:
        work = Work(WeightedSemaphore(10, 100, "images"))
        await work.start("a", 10)
        await work.start("b", 10)
        work._ends["a"].set()
        while not work.tasks["a"].done():
            await asyncio.sleep(0)
        work.tasks["b"].cancel()
        await settled()
        await work.start("c", 10)
        assert "c" in work.running

    run(scene())


@given(st.lists(st.integers(0, 20), max_size=30), st.integers(1, 20))
def test_parts_are_all_there_is_in_order_and_none_is_too_large(amounts: list[int], most: int) -> None:
    found = [amounts[part] for part in parts(amounts, most)]
    assert [amount for part in found for amount in part] == amounts
    assert all(sum(part) <= most or len(part) == 1 for part in found)
    assert all(found)
