"""The other deployments, as the gateway calls them. A call that is given up is cancelled there too.

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

PATIENCE_S = 60.0
"""From the first loss of a call to its last repeat: the replica's successor loads its model meanwhile."""
PAUSE_S = 0.1


class GenerationHandle:
    """The generation deployment."""

    def __init__(self, handle: Any, lost: Lost) -> None:
        self._handle, self._lost = handle, lost
        self._streaming = handle.options(stream=True)

    async def generate(self, request: GenerationRequest) -> list[GeneratedImage]:
        patience = Patience(self._lost)
        while True:
            try:
                images: list[GeneratedImage] = await call(self._handle.generate, request)
                return images
            except Exception as error:
                if not await patience.waits(error):
                    raise
                request = replace(request, resent=True)

    async def stream(self, request: GenerationRequest) -> AsyncGenerator[GenerationOutput, None]:
        left, patience = dict(zip(request.indices, request.seeds, strict=True)), Patience(self._lost)
        while left:
            rest = replace(
                request, indices=tuple(left), seeds=tuple(left.values()), resent=patience.losses > 0
            )
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
    """How long one call is made again after its replica ended."""

    def __init__(self, lost: Lost) -> None:
        self._lost = lost
        self._until: float | None = None
        self.losses = 0

    async def waits(self, error: BaseException) -> bool:
        """Wait a moment before the next try; False when there is none."""
        if not self._lost(error):
            return False
        self.losses += 1
        self._until = self._until or time.monotonic() + PATIENCE_S
        await asyncio.sleep(PAUSE_S)
        return time.monotonic() < self._until


async def repeated(lost: Lost, method: Any, *arguments: Any) -> Any:
    """`call` for what changes nothing."""
    patience = Patience(lost)
    while True:
        try:
            return await call(method, *arguments)
        except Exception as error:
            if not await patience.waits(error):
                raise


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
