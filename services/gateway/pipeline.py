"""The pipeline of a request: generate, score and store images with their provenance. No Ray, no protobuf.

An image is handed out only when its bytes and its record are durable. A repeat of a request id finds what is stored
and draws only what is missing, on the version that drew the rest.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Iterator, Sequence
from contextlib import aclosing
from dataclasses import replace

from services import metrics
from services.gateway.earlier import EarlierImages
from services.gateway.filing import Filing
from services.gateway.ports import GenerationOutput, GenerationPort, RewardPort
from services.gateway.usage import Usage
from services.reward.messages import ScoreReply, ScoreRequest
from vouch.errors import DeadlineExceeded, Internal
from vouch.storage.blobs import BlobStore
from vouch.types.clock import now
from vouch.types.generation import GeneratedImage, GenerationRequest
from vouch.types.score import ImageScore, ItemError, Score

CHUNK = 16  # images of a stream that are drawn, scored and stored together
GRACE_S = 0.5  # seconds
IN_FLIGHT = 2  # chunks at once: one is drawn while the one before is scored and stored


class GenerationPipeline:
    """Generates, scores and stores images."""

    def __init__(
        self,
        generation: GenerationPort,
        reward: RewardPort,
        filing: Filing,
        blobs: BlobStore,
        earlier: EarlierImages,
    ) -> None:
        self._generation, self._reward = generation, reward
        self._filing, self._blobs, self._earlier = filing, blobs, earlier

    async def generate(self, request: GenerationRequest, usage: Usage) -> list[GeneratedImage]:
        """All images of a unary call, in order. Raises what the deployments and the stores raise."""
        try:
            return await asyncio.wait_for(self._generate(request, usage), _patience_s(request))
        except asyncio.TimeoutError as error:
            raise _too_late(request) from error

    async def stream(self, request: GenerationRequest, usage: Usage) -> AsyncIterator[GenerationOutput]:
        """Images as soon as they are stored, with progress in between. Closing the stream stops the generation."""
        request, stored = await self._resume(request, usage)
        for image in stored:
            yield image
        missing = _missing(request, stored)
        if not missing:
            return
        request = await self._pinned(request)
        async with aclosing(self._pump(request, missing, usage)) as events:
            async for event in events:
                yield event

    # ---- one call

    async def _generate(self, request: GenerationRequest, usage: Usage) -> list[GeneratedImage]:
        request, stored = await self._resume(request, usage)
        missing = _missing(request, stored)
        drawn = await self._generation.generate(_part(request, missing, usage)) if missing else []
        return sorted([*stored, *await self._keep(request, drawn, usage)], key=lambda image: image.index)

    async def _resume(
        self, request: GenerationRequest, usage: Usage
    ) -> tuple[GenerationRequest, list[GeneratedImage]]:
        request, stored = await asyncio.to_thread(self._earlier.resume, request)
        usage.add(stored)
        return request, stored

    async def _keep(
        self, request: GenerationRequest, drawn: Sequence[GeneratedImage], usage: Usage
    ) -> list[GeneratedImage]:
        """Score and store. When this returns, everything is durable."""
        if not drawn:
            return []
        data = [image.data for image in drawn]
        digests, reply = await asyncio.gather(
            asyncio.to_thread(lambda: [self._blobs.put(one) for one in data]), self._score(request, data)
        )
        images = [
            replace(_scored(image, reply, row), digest=digest, created_at=now())
            for row, (image, digest) in enumerate(zip(drawn, digests, strict=True))
        ]
        records = [image.record(request.request_id) for image in images]
        scores = [score for score in map(_score_record, images) if score]
        await asyncio.to_thread(self._filing.add, records, scores, request.owner)
        metrics.IMAGES.inc(len(images))
        usage.add(images, score_s=reply.score_s if reply else 0.0)
        return images

    async def _score(self, request: GenerationRequest, data: Sequence[bytes]) -> ScoreReply | None:
        if not request.score:
            return None
        items = tuple((one, request.prompt) for one in data)
        return await self._reward.score(
            ScoreRequest(request_id=request.request_id, items=items, version=request.reward_version)
        )

    # ---- a stream

    async def _pinned(self, request: GenerationRequest) -> GenerationRequest:
        """The whole stream stays on the versions that it begins with, whatever a rollout does meanwhile."""
        generator, reward = await asyncio.gather(
            self._generation.describe(request.request_id, request.version, request.client),
            self._reward.resolve(request.request_id, request.reward_version) if request.score else _nothing(),
        )
        return replace(
            request,
            version=generator.generator_version,
            assigned=not request.version,
            reward_version=reward,
        )

    async def _pump(
        self, request: GenerationRequest, missing: list[int], usage: Usage
    ) -> AsyncGenerator[GenerationOutput, None]:
        chunks = iter([missing[start : start + CHUNK] for start in range(0, len(missing), CHUNK)])
        events: asyncio.Queue[GenerationOutput | Exception] = asyncio.Queue(maxsize=4 * CHUNK)
        workers = [asyncio.create_task(self._work(chunks, request, usage, events)) for _ in range(IN_FLIGHT)]
        left = len(missing)
        try:
            while left:
                event = await _next(events, request, usage)
                left -= isinstance(event, GeneratedImage)
                yield event
        finally:
            for worker in workers:
                worker.cancel()
            await asyncio.gather(*workers, return_exceptions=True)

    async def _work(
        self,
        chunks: Iterator[list[int]],
        request: GenerationRequest,
        usage: Usage,
        events: asyncio.Queue[GenerationOutput | Exception],
    ) -> None:
        try:
            for chunk in chunks:
                drawn: list[GeneratedImage] = []
                part = replace(_part(request, chunk, usage), progress=True)
                async with aclosing(self._generation.stream(part)) as answers:
                    async for answer in answers:
                        if isinstance(answer, GeneratedImage):
                            drawn.append(answer)
                        else:
                            await events.put(answer)
                for image in await self._keep(request, drawn, usage):
                    await events.put(image)
        except Exception as error:  # noqa: BLE001 - raised again where the stream is read
            await events.put(error)


async def _next(
    events: asyncio.Queue[GenerationOutput | Exception], request: GenerationRequest, usage: Usage
) -> GenerationOutput:
    patience_s = _patience_s(request)
    left_s = None if patience_s is None else max(0.0, patience_s - usage.elapsed_s)
    try:
        event = await asyncio.wait_for(events.get(), left_s)
    except asyncio.TimeoutError as error:
        raise _too_late(request) from error
    if isinstance(event, Exception):
        raise event
    return event


async def _nothing() -> str:
    return ""


def _missing(request: GenerationRequest, stored: Sequence[GeneratedImage]) -> list[int]:
    there = {image.index for image in stored}
    return [index for index in request.indices if index not in there]


def _part(request: GenerationRequest, indices: Sequence[int], usage: Usage) -> GenerationRequest:
    """Of the request, the images at these positions, in the time that is left."""
    left_s = None if request.timeout_s is None else max(0.0, request.timeout_s - usage.elapsed_s)
    seeds = tuple(request.seeds[index] for index in indices)
    return replace(request, seeds=seeds, indices=tuple(indices), timeout_s=left_s)


def _scored(image: GeneratedImage, reply: ScoreReply | None, row: int) -> GeneratedImage:
    """The image with its score; without one when the reward model does not know what this prompt asks for, as with a
    foreign generator."""
    outcome = reply.outcomes[row] if reply else None
    if isinstance(outcome, ItemError) and outcome.reason == Internal.reason:
        raise Internal(outcome.message)
    if reply is None or not isinstance(outcome, ImageScore):
        return image
    return replace(
        image,
        reward_version=reply.version,
        score=outcome.score,
        score_std=outcome.score_std,
        criterion_scores=dict(outcome.criterion_scores),
    )


def _score_record(image: GeneratedImage) -> Score | None:
    if image.score is None or image.score_std is None:
        return None
    return Score(
        image=image.digest,
        version=image.reward_version,
        overall=image.score,
        std=image.score_std,
        criteria=image.criterion_scores,
    )


def _patience_s(request: GenerationRequest) -> float | None:
    """The caller's timeout plus a margin, in which the engine reports cancelled images."""
    return None if request.timeout_s is None else request.timeout_s + GRACE_S


def _too_late(request: GenerationRequest) -> DeadlineExceeded:
    return DeadlineExceeded(
        f"The {len(request.seeds)} images were not ready within timeout_s = {request.timeout_s:g} seconds. "
        "Allow more, or ask for fewer images or steps."
    )
