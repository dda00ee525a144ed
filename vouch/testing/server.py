"""The fake server: it serves the fake RPCs with gRPC on a thread."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator, Callable
from concurrent.futures import Future
from pathlib import Path
from types import TracebackType
from typing import Any

import grpc
from google.protobuf.message import Message

from vouch.client.rpcs import METHODS, answer_class
from vouch.pb.v1 import (
    feedback_pb2_grpc,
    generation_pb2_grpc,
    models_pb2_grpc,
    reward_pb2_grpc,
    rollout_pb2_grpc,
    training_pb2_grpc,
)
from vouch.storage.state import Access, StateFolder
from vouch.testing.door import Caller, guarded
from vouch.testing.feedback import FakeFeedback

TOKENS = {"client": "client-token", "rater": "rater-token", "operator": "operator-token"}
"""The token of each role."""
START_S = 30
_SERVICES = (
    generation_pb2_grpc.add_GenerationServiceServicer_to_server,
    reward_pb2_grpc.add_RewardServiceServicer_to_server,
    feedback_pb2_grpc.add_FeedbackServiceServicer_to_server,
    models_pb2_grpc.add_ModelsServiceServicer_to_server,
    rollout_pb2_grpc.add_RolloutServiceServicer_to_server,
    training_pb2_grpc.add_TrainingServiceServicer_to_server,
)


class FakeServer(FakeFeedback):
    """A fake vouch system on a free port of this machine; it runs until the end of the `with` block.

    Example:
        with FakeServer() as server, vouch.connect(server.address) as client:
            client.generate_images("neutrophil", count=2, seed=7)
            assert len(server.images) == 2

    Args:
        auth: whether calls need one of `TOKENS` and its role. False admits every call as an operator's.
        state: a folder that gets an `access.json`, for code that finds the system by its state folder.
    """

    def __init__(self, *, auth: bool = False, state: Path | None = None) -> None:
        super().__init__()
        self.address = ""
        """HOST:PORT while the server runs."""
        self._tokens = dict(TOKENS) if auth else None
        self._state = state
        self._thread: threading.Thread | None = None
        self._loop: asyncio.AbstractEventLoop
        self._stop: asyncio.Event

    @property
    def state(self) -> Path:
        """The state folder. Raises ValueError for a server that was made without one."""
        if self._state is None:
            raise ValueError("This FakeServer has no state folder: make it with FakeServer(state=folder).")
        return self._state

    def __enter__(self) -> FakeServer:
        started: Future[None] = Future()
        self._thread = threading.Thread(
            target=self._serve_in_thread, args=(started,), name="fake-vouch", daemon=True
        )
        self._thread.start()
        started.result(START_S)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._loop.call_soon_threadsafe(self._stop.set)
        if self._thread is not None:
            self._thread.join(START_S)

    def _serve_in_thread(self, started: Future[None]) -> None:
        try:
            asyncio.run(self._serve(started))
        except Exception as error:
            if started.done():
                raise
            started.set_exception(error)

    async def _serve(self, started: Future[None]) -> None:
        self._loop, self._stop = asyncio.get_running_loop(), asyncio.Event()
        server = grpc.aio.server(options=[("grpc.max_receive_message_length", -1)])
        for register in _SERVICES:
            register(_Handlers(self._handler), server)  # type: ignore[no-untyped-call]
        self.address = f"127.0.0.1:{server.add_insecure_port('127.0.0.1:0')}"
        await server.start()
        if self._state is not None:
            access = Access(address=self.address, http="http://127.0.0.1:1", tokens=self._tokens or {})
            StateFolder(self._state).create().write_access(access)
        started.set_result(None)
        await self._stop.wait()
        await server.stop(None)

    def _handler(self, rpc: str) -> Callable[..., Any]:
        return guarded(rpc, getattr(self, rpc, None) or _without_behaviour(rpc), self._tokens)


def _without_behaviour(rpc: str) -> Callable[..., Any]:
    """Answers an RPC that the fake does not implement with one empty message."""
    answer = answer_class(rpc)

    async def once(request: Any, caller: Caller) -> Message:
        return answer()

    async def stream(request: Any, caller: Caller) -> AsyncIterator[Message]:
        yield answer()

    return stream if METHODS[rpc].server_streaming else once


class _Handlers:
    """A servicer whose methods are the handlers of the RPCs."""

    def __init__(self, handler: Callable[[str], Callable[..., Any]]) -> None:
        self._handler = handler

    def __getattr__(self, rpc: str) -> Callable[..., Any]:
        return self._handler(rpc)
