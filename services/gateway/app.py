"""The gateway: the ingress, with a method for every RPC. It handles generation and scoring, and forwards the rest."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, TypeVar

from ray.exceptions import RayActorError
from ray.serve.exceptions import BackPressureError, DeploymentUnavailableError
from ray.serve.handle import DeploymentHandle

from services import edge, field_limits, ingress, logs
from services.edge import Identity, streaming, unary
from services.gateway import validation
from services.gateway.earlier import EarlierImages
from services.gateway.filing import Filing
from services.gateway.forwards import forwarding
from services.gateway.handles import GenerationHandle, RewardHandle
from services.gateway.observed import observed
from services.gateway.pipeline import GenerationPipeline
from services.gateway.scoring import Asked, Scoring
from services.gateway.usage import Usage
from services.keyring import Keyring
from vouch import wire
from vouch.errors import Exhausted, InvalidInput, Unavailable, VouchError
from vouch.pb.v1 import feedback_pb2, generation_pb2, reward_pb2
from vouch.settings import Settings
from vouch.storage.blobs import BlobStore
from vouch.storage.catalog import Catalog
from vouch.storage.outbox import Outbox
from vouch.storage.registry import Registry
from vouch.types.generation import GeneratedImage, GenerationProgress, GenerationRequest
from vouch.types.generator import GeneratorDescription
from vouch.types.score import ItemError, ScoreItem, ScoreResult
from vouch.types.token import DescribeCallerResponse

if TYPE_CHECKING:
    from services.overview import Overview

IMPORT_FAILURES = 100
ITEM_ID_SHOWN = 512  # characters; a longer id is refused, and its result carries so much of it

ImportTotal = TypeVar(
    "ImportTotal", feedback_pb2.ImportRatingsResponse, feedback_pb2.ImportRealImagesResponse
)


@observed
@forwarding
class Gateway:
    """Answers every RPC of the contract, and the web pages (see services/web)."""

    def __init__(
        self,
        settings: Settings,
        generation: DeploymentHandle,
        reward: DeploymentHandle,
        feedback: DeploymentHandle,
        operations: DeploymentHandle,
    ) -> None:
        edge.translate_with(_ray_error)
        self._generation = GenerationHandle(generation, _replica_ended)
        self._reward = RewardHandle(reward, _replica_ended)
        self.deployments = {"feedback": feedback, "operations": operations}
        catalog = Catalog(settings.resolved_catalog_url)
        self.access = edge.AccessControl(Keyring(catalog.tokens) if settings.server.auth else None)
        ingress.guard_with(self.access)
        logs.leave_out_refusals()
        blobs = BlobStore(settings.resolved_blobs_url)
        self._registry = Registry(catalog, settings.folder.models, settings.models_url)
        outbox = Outbox(BlobStore(settings.resolved_outbox_url))
        earlier = EarlierImages(catalog, blobs, self._registry, outbox)
        filing = Filing(catalog, outbox)
        self._pipeline = GenerationPipeline(self._generation, self._reward, filing, blobs, earlier)
        self._scoring = Scoring(self._reward, catalog, blobs, self._registry)

    # ---- generation

    @unary
    async def GenerateImages(
        self, request: generation_pb2.GenerateImagesRequest, caller: Identity
    ) -> generation_pb2.GenerateImagesResponse:
        asked, usage = _generation_request(request, caller, stream=False), Usage()
        images = await self._pipeline.generate(asked, usage)
        return generation_pb2.GenerateImagesResponse(
            request_id=asked.request_id,
            images=[wire.to_message(image, generation_pb2.GeneratedImage) for image in images],
            generator_version=usage.generator_version,
            reward_version=usage.reward_version,
            summary=_summary(usage),
        )

    @streaming
    async def StreamImages(
        self, request: generation_pb2.StreamImagesRequest, caller: Identity
    ) -> AsyncIterator[generation_pb2.StreamImagesResponse]:
        asked, usage = _generation_request(request, caller, stream=True), Usage()
        sent = 0
        async for event in self._pipeline.stream(asked, usage):
            if isinstance(event, GeneratedImage):
                sent += 1
            if isinstance(event, GenerationProgress):
                event = replace(
                    event, images_done=sent, images_total=len(asked.seeds), elapsed_s=usage.elapsed_s
                )
            yield wire.to_event(event, generation_pb2.StreamImagesResponse)
        yield generation_pb2.StreamImagesResponse(summary=_summary(usage))

    @unary
    async def DescribeGenerator(
        self, request: generation_pb2.DescribeGeneratorRequest, caller: Identity
    ) -> generation_pb2.DescribeGeneratorResponse:
        version = await asyncio.to_thread(self._registry.digest, request.version)
        description = await self._generation.describe("", version)
        return wire.to_message(_with_limits(description), generation_pb2.DescribeGeneratorResponse)

    # ---- reward

    @unary
    async def ScoreImages(
        self, request: reward_pb2.ScoreImagesRequest, caller: Identity
    ) -> reward_pb2.ScoreImagesResponse:
        request_id = validation.named(request.request_id)
        scores = await self._scoring.score(_items(request), request_id, request.version, caller.owner)
        return reward_pb2.ScoreImagesResponse(
            scores=[wire.to_message(score, reward_pb2.ImageScore) for score in scores],
            reward_version=scores[0].reward_version,
        )

    @streaming
    async def ScoreStream(
        self, request: AsyncIterator[reward_pb2.ScoreStreamRequest], caller: Identity
    ) -> AsyncIterator[reward_pb2.ScoreStreamResponse]:
        first = await anext(aiter(request), None)
        if first is None:
            return
        request_id = validation.named(first.request_id)
        version = await self._scoring.pin(request_id, first.version)
        messages = _item_lists(first, request)
        async for results in self._scoring.stream(messages, request_id, version, caller.owner):
            yield reward_pb2.ScoreStreamResponse(
                results=[wire.to_message(result, reward_pb2.ScoreResult) for result in results]
            )

    # ---- feedback

    @unary
    async def ImportRatings(
        self, request: AsyncIterator[feedback_pb2.ImportRatingsRequest], caller: Identity
    ) -> feedback_pb2.ImportRatingsResponse:
        total, offset = feedback_pb2.ImportRatingsResponse(), 0
        async for message in request:
            part = await self.deployments["feedback"].ImportRatings.remote(message, offset, caller)
            offset += len(message.ratings)
            _add(total, part)
        return total

    @unary
    async def ImportRealImages(
        self, request: AsyncIterator[feedback_pb2.ImportRealImagesRequest], caller: Identity
    ) -> feedback_pb2.ImportRealImagesResponse:
        total, offset = feedback_pb2.ImportRealImagesResponse(), 0
        drawn = await self._generation.describe("", "")
        async for message in request:
            part = await self.deployments["feedback"].ImportRealImages.remote(message, offset, drawn, caller)
            offset += len(message.images)
            _add(total, part)
        return total

    @unary
    async def DescribeCaller(
        self, request: feedback_pb2.DescribeCallerRequest, caller: Identity
    ) -> feedback_pb2.DescribeCallerResponse:
        answer = DescribeCallerResponse(
            name=caller.name,
            role=caller.role,
            kinds=caller.kinds,
            any_rater="any-rater" in caller.scopes,
        )
        return wire.to_message(answer, feedback_pb2.DescribeCallerResponse)

    # ---- the web page

    async def overview(self) -> Overview:
        """What the web page shows."""
        overview: Overview = await self.deployments["operations"].overview.remote()
        return overview


def _replica_ended(error: BaseException) -> bool:
    return isinstance(error, RayActorError) or isinstance(getattr(error, "cause", None), RayActorError)


def _ray_error(error: BaseException) -> VouchError | None:
    if isinstance(error, BackPressureError):
        return Exhausted("Too many requests wait already; try again in a second.", retry_after_s=1.0)
    if _replica_ended(error) or isinstance(error, DeploymentUnavailableError):
        return Unavailable(
            "The part of the system that this call needs is restarting; try again in a moment."
        )
    return None


# ---- messages to values


def _generation_request(
    message: generation_pb2.GenerateImagesRequest | generation_pb2.StreamImagesRequest,
    caller: Identity,
    *,
    stream: bool,
) -> GenerationRequest:
    count = message.count if message.HasField("count") else 1
    request = wire.to_value(
        message,
        GenerationRequest,
        seeds=validation.seeds(message.request_id, wire.optional(message, "seed"), count),
        client=caller.client or caller.name,
        owner=caller.name,
    )
    return validation.checked(request, stream=stream)


def _items(message: reward_pb2.ScoreImagesRequest | reward_pb2.ScoreStreamRequest) -> list[Asked]:
    return [_item(item) for item in message.items]


def _item(message: reward_pb2.ScoreItem) -> Asked:
    """An item with a field out of its limits gets an error of its own."""
    try:
        field_limits.check(message)
    except InvalidInput as error:
        return ScoreResult(
            item_id=message.item_id[:ITEM_ID_SHOWN],
            error=ItemError(reason=error.reason, message=error.message),
        )
    return wire.to_value(message, ScoreItem)


async def _item_lists(
    first: reward_pb2.ScoreStreamRequest, rest: AsyncIterator[reward_pb2.ScoreStreamRequest]
) -> AsyncIterator[Sequence[Asked]]:
    yield _items(first)
    async for message in rest:
        yield _items(message)


# ---- values to messages


def _summary(usage: Usage) -> generation_pb2.GenerationSummary:
    return wire.to_message(usage.summary(), generation_pb2.GenerationSummary)


def _with_limits(description: GeneratorDescription) -> GeneratorDescription:
    """The description with the limits of the contract."""
    return replace(
        description,
        max_images_per_call=int(field_limits.number("GenerateImagesRequest.count").high),
        max_images_per_stream=int(field_limits.number("StreamImagesRequest.count").high),
        max_steps=int(field_limits.number("steps").high),
        max_guidance=field_limits.number("guidance").high,
    )


def _add(total: ImportTotal, part: ImportTotal) -> None:
    """Count the outcomes of one message of an import, and keep the first failures."""
    for field, value in part.ListFields():
        if field.name != "failures":
            setattr(total, field.name, getattr(total, field.name) + value)
    total.failures.extend(part.failures[: IMPORT_FAILURES - len(total.failures)])
