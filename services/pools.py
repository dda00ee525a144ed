"""Thread pools for blocking work; every RPC has its own, so that a slow one cannot block the others."""

from __future__ import annotations

import asyncio
import functools
from collections.abc import Callable, Coroutine
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Concatenate, ParamSpec, Protocol, TypeVar

T = TypeVar("T")
P = ParamSpec("P")

THREADS = 4  # of each RPC; a thread is made when it is needed


class Pools:
    """One pool of threads for each name.

    Example:
        page = await pools.run("ListImages", self._list_images, request)
    """

    def __init__(self, threads: int = THREADS) -> None:
        self._threads = threads
        self._pools: dict[str, ThreadPoolExecutor] = {}

    async def run(self, name: str, work: Callable[..., T], *arguments: Any) -> T:
        """Run `work` on a thread of `name`'s pool; waits while all threads are busy."""
        pool = self._pools.get(name)
        if pool is None:
            pool = self._pools[name] = ThreadPoolExecutor(self._threads, thread_name_prefix=name)
        return await asyncio.get_running_loop().run_in_executor(pool, work, *arguments)


class Pooled(Protocol):
    """An object whose methods run on pools."""

    pools: Pools


S = TypeVar("S", bound=Pooled)


def on_thread(
    method: Callable[Concatenate[S, P], T],
) -> Callable[Concatenate[S, P], Coroutine[Any, Any, T]]:
    """Turns a blocking method into a coroutine that runs on a thread of the pool of its name."""

    @functools.wraps(method)
    async def call(self: S, /, *arguments: P.args, **named: P.kwargs) -> T:
        return await self.pools.run(method.__name__, functools.partial(method, self, *arguments, **named))

    return call
