"""A whole vouch system in this process: real deployments, real gRPC, and calls between them without Ray."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator, Iterator
from concurrent.futures import Future
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import grpc
import pytest
from ray import serve

from services import ingress
from services.starter import publish_models
from services.tokens import access_of
from vouch.settings import Settings, load_settings

START_S = 120


class LocalHandle:
    """A deployment of this process, as Ray Serve's handles show one."""

    def __init__(self, deployment: Any) -> None:
        self._deployment = deployment

    def options(self, **_: Any) -> LocalHandle:
        return self

    def broadcast(self, method: str) -> None:
        """Nobody is told: replicas look by themselves twice a second."""

    def __getattr__(self, method: str) -> LocalMethod:
        return LocalMethod(getattr(self._deployment, method))


class LocalMethod:
    """A method of a deployment."""

    def __init__(self, method: Any) -> None:
        self._method = method

    def options(self, **_: Any) -> LocalMethod:
        return self

    def remote(self, *arguments: Any) -> LocalResponse:
        return LocalResponse(self._method(*arguments))


class LocalResponse:
    """What a method answers: awaited, or read item by item."""

    def __init__(self, answer: Any) -> None:
        self._answer = answer

    def __await__(self) -> Any:
        return self._answer.__await__()

    def __aiter__(self) -> AsyncIterator[Any]:
        return aiter(self._answer)

    def cancel(self) -> None:
        return


@contextmanager
def running(state: Path, models: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Settings]:
    """A system with the models of this folder. Its state folder tells clients where it is."""
    replica = SimpleNamespace(replica_id=SimpleNamespace(unique_id="replica-1"))
    monkeypatch.setattr(serve, "get_replica_context", lambda: replica)
    monkeypatch.setattr(ingress, "_access", [])
    settings = load_settings(
        state=state,
        generation={"model": str(models / "first"), "compile": False, "threads": 1},
        reward={"model": str(models / "judge"), "threads": 1},
    )
    settings.folder.create()
    publish_models(settings)
    started: Future[tuple[asyncio.AbstractEventLoop, asyncio.Event]] = Future()
    thread = threading.Thread(target=lambda: asyncio.run(_serve(settings, started)), daemon=True)
    thread.start()
    loop, stop = started.result(START_S)
    try:
        yield settings
    finally:
        loop.call_soon_threadsafe(stop.set)
        thread.join(START_S)


async def _serve(settings: Settings, started: Future[Any]) -> None:
    from services.feedback.app import Feedback
    from services.gateway.app import Gateway
    from services.generation.app import Generation
    from services.operations.app import Operations
    from services.reward.app import Reward

    try:
        generation, reward = (LocalHandle(kind(settings)) for kind in (Generation, Reward))
        operations: Any = Operations(settings, generation, reward)  # type: ignore[arg-type]
        feedback: Any = LocalHandle(Feedback(settings))
        gateway = Gateway(settings, generation, reward, feedback, LocalHandle(operations))  # type: ignore[arg-type]
        server = grpc.aio.server()
        ingress.add_services(gateway, server)
        port = server.add_insecure_port("127.0.0.1:0")
        await server.start()
    except BaseException as error:
        started.set_exception(error)
        raise
    access = access_of(settings)
    settings.folder.write_access(type(access)(f"127.0.0.1:{port}", access.http, access.tokens))
    stop = asyncio.Event()
    started.set_result((asyncio.get_running_loop(), stop))
    await stop.wait()
    await server.stop(None)
    await operations.stop()
