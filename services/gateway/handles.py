"""Handles of the gateway to the other deployments. Cancelling a call cancels it there too.

Drawing and scoring change nothing, so a call whose replica ended is made again: it waits for the replica that takes its
place. `lost` tells such an end from every other error.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncGenerator, Callable
from contextlib import aclosing
from dataclasses import replace
from typing import Any

from services.gateway.ports import GenerationOutput
from services.reward.messages import ScoreReply, ScoreRequest
from vouch.types.generation import GeneratedImage, GenerationRequest
from vouch.types.generator import GeneratorDescription

Lost = Callable[[BaseException], bool]
Again = Callable[[Any], Any]

PATIENCE_S = 60.0
"""Seconds from the first loss of a call to its last retry: the new replica loads its model meanwhile."""
PAUSE_S = 0.1


class GenerationHandle:
    """The generation deployment."""

    def __init__(self, handle: Any, lost: Lost) -> None:
        self._handle, self._lost = handle, lost
        self._streaming = handle.options(stream=True)

    async def generate(self, request: GenerationRequest) -> list[GeneratedImage]:
        images: list[GeneratedImage] = await repeated(
            self._lost, self._handle.generate, request, again=_resent
        )
        return images

    async def stream(self, request: GenerationRequest) -> AsyncGenerator[GenerationOutput, None]:
        left, patience = dict(zip(request.indices, request.seeds, strict=True)), Patience(self._lost)
        while left:
            rest = replace(request, indices=tuple(left), seeds=tuple(left.values()))
            try:
                async with aclosing(stream(self._streaming.stream, rest)) as events:
                    async for event in events:
                        if isinstance(event, GeneratedImage):
                            left.pop(event.index, None)
                        yield event
                return
            except Exception as error:
                if not await patience.waits(error):
                    raise
                request = _resent(request)

    async def describe(self, request_id: str, version: str, client: str = "") -> GeneratorDescription:
        description: GeneratorDescription = await repeated(
            self._lost, self._handle.describe, request_id, version, client
        )
        return description


class RewardHandle:
    """The reward deployment."""

    def __init__(self, handle: Any, lost: Lost) -> None:
        self._handle, self._lost = handle, lost

    async def score(self, request: ScoreRequest) -> ScoreReply:
        reply: ScoreReply = await repeated(self._lost, self._handle.score, request)
        return reply

    async def resolve(self, request_id: str, version: str) -> str:
        digest: str = await repeated(self._lost, self._handle.resolve, request_id, version)
        return digest


class Patience:
    """The retries of one call after its replica died."""

    def __init__(self, lost: Lost) -> None:
        self._lost = lost
        self._until: float | None = None

    async def waits(self, error: BaseException) -> bool:
        """Wait a moment before the next try; False when there is none."""
        if not self._lost(error):
            return False
        self._until = self._until or time.monotonic() + PATIENCE_S
        await asyncio.sleep(PAUSE_S)
        return time.monotonic() < self._until


async def repeated(
    lost: Lost, method: Any, argument: Any, *more: Any, again: Again = lambda argument: argument
) -> Any:
    """`call` for what changes nothing. again: makes of the argument the one that is sent after a loss."""
    patience = Patience(lost)
    while True:
        try:
            return await call(method, argument, *more)
        except Exception as error:
            if not await patience.waits(error):
                raise
            argument = again(argument)


def _resent(request: GenerationRequest) -> GenerationRequest:
    return replace(request, resent=True)


async def call(method: Any, *arguments: Any) -> Any:
    response = method.remote(*arguments)
    try:
        return await response
    except asyncio.CancelledError:
        response.cancel()
        raise


async def stream(method: Any, *arguments: Any) -> AsyncGenerator[Any, None]:
    response = method.options(stream=True).remote(*arguments)
    try:
        async for item in response:
            yield item
    finally:
        response.cancel()
