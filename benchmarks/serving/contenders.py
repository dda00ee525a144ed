"""The servers that are compared: how each is started, stopped and called."""

from __future__ import annotations

import asyncio
import tempfile
import urllib.request
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractAsyncContextManager, AbstractContextManager, contextmanager
from dataclasses import dataclass
from pathlib import Path

from benchmarks.serving import transports
from benchmarks.serving.asks import Ask
from benchmarks.serving.environments import python_of
from benchmarks.serving.page import Page, read
from benchmarks.serving.process import Process, every, running
from benchmarks.serving.replay import Send
from benchmarks.system import free_ports, running_system
from vouch.storage.state import StateFolder

START_S = 240.0
PAGE_S = 10.0


@dataclass(frozen=True, order=True)
class Setting:
    """How a peer batches: at most so many requests, after so many seconds of waiting."""

    max_batch: int = 1
    wait_s: float = 0.0


@dataclass(frozen=True)
class Server:
    """A contender that runs. `connect` is for one event loop, `page` reads its figures, if it has any."""

    connect: Callable[[], AbstractAsyncContextManager[Send]]
    page: Callable[[], Page] = dict


@dataclass(frozen=True)
class Contender:
    """`start(model, folder, setting)` runs it for the length of a block; logs go into the folder."""

    name: str
    start: Callable[[Path, Path, Setting], AbstractContextManager[Server]]
    grid: Sequence[Setting] = (Setting(),)


def peer(name: str, module: str, connect: Callable[[int], AbstractAsyncContextManager[Send]]) -> Callable:
    """How a server in benchmarks/serving/peers is started."""

    @contextmanager
    def start(model: Path, folder: Path, setting: Setting) -> Iterator[Server]:
        (port,) = free_ports(1)
        options = (
            "--model",
            model,
            "--port",
            port,
            "--max-batch",
            setting.max_batch,
            "--wait-s",
            setting.wait_s,
        )
        module_name = f"benchmarks.serving.peers.{module}"
        with running(python_of(name), module_name, *options, log=folder / f"{name}.log") as process:
            server = Server(lambda: connect(port))
            wait_until_it_draws(server, process)
            yield server

    return start


def vouch_with(**settings: str) -> Callable:
    """How the real system is started; its starter is the model that all others load."""

    @contextmanager
    def start(model: Path, folder: Path, setting: Setting) -> Iterator[Server]:
        with (
            tempfile.TemporaryDirectory(dir=folder, prefix="state-") as state,
            running_system(Path(state), **settings) as (system, _),
        ):
            system.wait_until_compiled()
            address = StateFolder(Path(state)).read_access().http
            yield Server(lambda: transports.over_vouch(Path(state)), lambda: _page(f"{address}/metrics"))

    return start


def wait_until_it_draws(server: Server, process: Process) -> None:
    """RuntimeError when the process ends, or draws nothing in time."""
    reason: Exception | None = None
    for _ in every(0.2, START_S):
        process.check()
        try:
            asyncio.run(_draw_one(server))
            return
        except Exception as error:  # noqa: BLE001 - whatever its client raises, it is not there yet
            reason = error
    raise RuntimeError(f"it draws nothing after {START_S:.0f} s ({reason!r}):\n{process.tail()}")


async def _draw_one(server: Server) -> None:
    async with server.connect() as send:
        await asyncio.wait_for(send(Ask("", 1, 0, 1, 1.0)), START_S / 4)


def _page(address: str) -> Page:
    with urllib.request.urlopen(address, timeout=PAGE_S) as reply:
        return read(reply.read().decode())


def _grid(waits_s: Sequence[float]) -> tuple[Setting, ...]:
    return tuple(Setting(size, wait_s) for size in (4, 16) for wait_s in waits_s)


CONTENDERS = {
    contender.name: contender
    for contender in (
        Contender("diffusers", peer("diffusers", "on_grpc", transports.over_grpc)),
        Contender(
            "serve_batch", peer("serve_batch", "on_serve_batch", transports.over_serve), _grid((0.05, 0.5))
        ),
        Contender("litserve", peer("litserve", "on_litserve", transports.litserve_http), _grid((0.05, 0.5))),
        # For BentoML the seconds are the latency from which on it refuses, see peers/on_bentoml.py.
        Contender("bentoml", peer("bentoml", "on_bentoml", transports.bentoml_http), _grid((10.0, 60.0))),
        # Computing as the others do, so that they differ in how they serve alone; and as it comes.
        Contender("vouch", vouch_with(VOUCH_GENERATION__COMPILE="false")),
        Contender("vouch_compiled", vouch_with()),
    )
}
