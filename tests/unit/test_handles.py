"""A replica that ends in the middle of a call costs its caller time, and nothing else."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import pytest

from services.gateway import handles
from services.gateway.handles import GenerationHandle, RewardHandle
from services.reward.messages import ScoreReply, ScoreRequest
from vouch.errors import InvalidInput
from vouch.types.generation import GeneratedImage, GenerationProgress, GenerationRequest


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
        self.requests: list[GenerationRequest] = []
        self.stream, self.generate, self.score = (
            Method(self._stream),
            Method(self._generate),
            Method(self._score),
        )

    def options(self, **_: Any) -> Replicas:
        return self

    async def _stream(self, request: GenerationRequest) -> AsyncIterator[GenerationProgress | GeneratedImage]:
        self.requests.append(request)
        yield GenerationProgress(step=1, total_steps=2)
        for number, (index, seed) in enumerate(zip(request.indices, request.seeds, strict=True)):
            if number == self._images_each:
                self._end()
            yield drawn(index, seed)

    async def _generate(self, request: GenerationRequest) -> list[GeneratedImage]:
        self.requests.append(request)
        self._end()
        return [drawn(index, seed) for index, seed in zip(request.indices, request.seeds, strict=True)]

    async def _score(self, request: ScoreRequest) -> ScoreReply:
        self._end()
        return ScoreReply(version="v", outcomes=(), score_s=0.0)

    def _end(self) -> None:
        if self._ends:
            self._ends -= 1
            raise Ended


def drawn(index: int, seed: int) -> GeneratedImage:
    return GeneratedImage(
        index=index, data=b"", media_type="image/png", width=8, height=8, prompt="monocyte", seed=seed, sampler="ddim",
        steps=2, guidance=1.0, guidance_method="cfg", guidance_start=0.0, guidance_stop=1.0, adapter_start=0.0,
        generator_version="v", generator_name="generator-1",
    )  # fmt: skip


REQUEST = GenerationRequest(
    request_id="r", prompt="monocyte", seeds=(10, 11, 12, 13, 14), indices=(0, 1, 2, 3, 4)
)


def run(work: Awaitable[Any]) -> Any:
    async def main() -> Any:
        return await work

    return asyncio.run(main())


async def collected(handle: GenerationHandle) -> list[GeneratedImage]:
    return [event async for event in handle.stream(REQUEST) if isinstance(event, GeneratedImage)]


def test_a_stream_goes_on_with_the_images_that_are_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(handles, "PAUSE_S", 0.0)
    replicas = Replicas(ends=2)
    images = run(collected(GenerationHandle(replicas, lost)))
    assert [(image.index, image.seed) for image in images] == [(0, 10), (1, 11), (2, 12), (3, 13), (4, 14)]
    assert [request.indices for request in replicas.requests] == [(0, 1, 2, 3, 4), (2, 3, 4), (4,)]
    assert [request.resent for request in replicas.requests] == [False, True, True]


def test_a_call_is_made_again_until_a_replica_answers(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(handles, "PAUSE_S", 0.0)
    replicas = Replicas(ends=3)
    assert len(run(GenerationHandle(replicas, lost).generate(REQUEST))) == 5
    assert [request.resent for request in replicas.requests] == [False, True, True, True]
    assert (
        run(
            RewardHandle(Replicas(ends=3), lost).score(ScoreRequest(request_id="r", items=(), version=""))
        ).version
        == "v"
    )


def test_patience_ends_with_the_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(handles, "PATIENCE_S", 0.0)
    with pytest.raises(Ended):
        run(GenerationHandle(Replicas(ends=100), lost).generate(REQUEST))


def test_another_error_is_handed_on_at_once() -> None:
    class Refusing(Replicas):
        def _end(self) -> None:
            raise InvalidInput("no such word")

    replicas = Refusing(ends=0)
    with pytest.raises(InvalidInput):
        run(GenerationHandle(replicas, lost).generate(REQUEST))
    assert len(replicas.requests) == 1
