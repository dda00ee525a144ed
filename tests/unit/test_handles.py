"""A replica that ends in the middle of a call costs its caller time, and nothing else."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import pytest

from services.gateway import handles
from services.gateway.handles import GenerationHandle, RewardHandle
from services.generation.orders import Drawn, DrawOrder, DrawProgress
from services.reward.orders import ScoreOrder, ScoreReply
from vouch.errors import InvalidInput
from vouch.types.guidance import PLAIN


class Ended(Exception):
    """The replica is gone."""


def lost(error: BaseException) -> bool:
    return isinstance(error, Ended)


class Response:
    """An answer of Ray Serve: awaited, or read item by item."""

    def __init__(self, answer: Any) -> None:
        self._answer = answer

    def __await__(self) -> Any:
        return self._answer.__await__()

    def __aiter__(self) -> AsyncIterator[Any]:
        return aiter(self._answer)

    def cancel(self) -> None:
        return


class Method:
    """A method of a handle."""

    def __init__(self, method: Callable[..., Any]) -> None:
        self._method = method

    def remote(self, *arguments: Any) -> Response:
        return Response(self._method(*arguments))

    def options(self, **_: Any) -> Method:
        return self


class Replicas:
    """A deployment whose replicas end: each draws `images_each` images, and then its successor takes over."""

    def __init__(self, ends: int, images_each: int = 2) -> None:
        self._ends, self._images_each = ends, images_each
        self.orders: list[DrawOrder] = []
        self.draw, self.draw_all, self.score = Method(self._draw), Method(self._draw_all), Method(self._score)

    def options(self, **_: Any) -> Replicas:
        return self

    async def _draw(self, order: DrawOrder) -> AsyncIterator[DrawProgress | Drawn]:
        self.orders.append(order)
        yield DrawProgress(step=1, total=2)
        for number, (index, seed) in enumerate(zip(order.indices, order.seeds, strict=True)):
            if number == self._images_each:
                self._end()
            yield drawn(index, seed)

    async def _draw_all(self, order: DrawOrder) -> list[Drawn]:
        self.orders.append(order)
        self._end()
        return [drawn(index, seed) for index, seed in zip(order.indices, order.seeds, strict=True)]

    async def _score(self, order: ScoreOrder) -> ScoreReply:
        self._end()
        return ScoreReply(version="v", outcomes=(), score_s=0.0)

    def _end(self) -> None:
        if self._ends:
            self._ends -= 1
            raise Ended


def drawn(index: int, seed: int) -> Drawn:
    return Drawn(
        index=index, data=b"", width=8, height=8, seed=seed, sampler="ddim", steps=2, guidance=1.0, version="v",
        version_name="generator-1", label="", engine_s=0.0, waited_s=0.0, fallback_reason="", options=PLAIN,
    )  # fmt: skip


ORDER = DrawOrder(request_id="r", prompt="monocyte", seeds=(10, 11, 12, 13, 14), indices=(0, 1, 2, 3, 4))


def run(work: Awaitable[Any]) -> Any:
    async def main() -> Any:
        return await work

    return asyncio.run(main())


async def collected(handle: GenerationHandle) -> list[Drawn]:
    return [event async for event in handle.draw(ORDER) if isinstance(event, Drawn)]


def test_a_stream_goes_on_with_the_images_that_are_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(handles, "PAUSE_S", 0.0)
    replicas = Replicas(ends=2)
    images = run(collected(GenerationHandle(replicas, lost)))
    assert [(image.index, image.seed) for image in images] == [(0, 10), (1, 11), (2, 12), (3, 13), (4, 14)]
    assert [order.indices for order in replicas.orders] == [(0, 1, 2, 3, 4), (2, 3, 4), (4,)]


def test_a_call_is_made_again_until_a_replica_answers(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(handles, "PAUSE_S", 0.0)
    assert len(run(GenerationHandle(Replicas(ends=3), lost).draw_all(ORDER))) == 5
    assert (
        run(
            RewardHandle(Replicas(ends=3), lost).score(ScoreOrder(request_id="r", items=(), version=""))
        ).version
        == "v"
    )


def test_patience_ends_with_the_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(handles, "PATIENCE_S", 0.0)
    with pytest.raises(Ended):
        run(GenerationHandle(Replicas(ends=100), lost).draw_all(ORDER))


def test_another_error_is_handed_on_at_once() -> None:
    class Refusing(Replicas):
        def _end(self) -> None:
            raise InvalidInput("no such word")

    replicas = Refusing(ends=0)
    with pytest.raises(InvalidInput):
        run(GenerationHandle(replicas, lost).draw_all(ORDER))
    assert len(replicas.orders) == 1
