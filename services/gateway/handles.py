"""The other deployments, as the gateway calls them. A call that is given up is cancelled there too."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from typing import Any

from services.generation.orders import Description, Drawn, DrawOrder, DrawPreview, DrawProgress
from services.reward.orders import ScoreOrder, ScoreReply


class GenerationHandle:
    """The generation deployment. A call that is given up is cancelled there too."""

    def __init__(self, handle: Any) -> None:
        self._handle = handle
        self._streaming = handle.options(stream=True)

    async def draw_all(self, order: DrawOrder) -> list[Drawn]:
        drawn: list[Drawn] = await call(self._handle.draw_all, order)
        return drawn

    async def draw(self, order: DrawOrder) -> AsyncGenerator[DrawProgress | DrawPreview | Drawn, None]:
        async for event in stream(self._streaming.draw, order):
            yield event

    async def describe(self, request_id: str, version: str) -> Description:
        description: Description = await call(self._handle.describe, request_id, version)
        return description


class RewardHandle:
    """The reward deployment."""

    def __init__(self, handle: Any) -> None:
        self._handle = handle

    async def score(self, order: ScoreOrder) -> ScoreReply:
        reply: ScoreReply = await call(self._handle.score, order)
        return reply

    async def resolve(self, request_id: str, version: str) -> str:
        digest: str = await call(self._handle.resolve, request_id, version)
        return digest


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
