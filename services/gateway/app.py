"""The gateway: the one ingress, with a method for every RPC. It checks, hands on, and turns values into messages."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from typing import Any

from google.protobuf.timestamp_pb2 import Timestamp
from ray.exceptions import RayActorError
from ray.serve.exceptions import BackPressureError, DeploymentUnavailableError
from ray.serve.handle import DeploymentHandle

from services import edge, field_limits, ingress, logs
from services.edge import Identity, streaming, unary
from services.gateway import guidance, validation
from services.gateway.drawing import Picture, Studio, Tally
from services.gateway.handles import GenerationHandle, RewardHandle, stream
from services.gateway.observed import observed
from services.gateway.scoring import Item, Result, Scoring
from services.generation.orders import Description, DrawPreview
from services.keyring import Keyring
from services.reward.orders import ItemRefusal
from vouch.errors import Exhausted, InvalidInput, Unavailable, VouchError
from vouch.pb.v1 import feedback_pb2, generation_pb2, reward_pb2
from vouch.settings import Settings
from vouch.storage.blobs import BlobStore
from vouch.storage.catalog import Catalog
from vouch.storage.registry import Registry

IMPORT_FAILURES = 100
ITEM_ID_SHOWN = 512  # characters; a longer id is refused, and its result carries so much of it


@observed
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
        self._feedback, self._operations = feedback, operations
        catalog = Catalog(settings.resolved_catalog_url)
        self.access = edge.Access(Keyring(catalog.tokens) if settings.server.auth else None)
        ingress.guard_with(self.access)
        logs.leave_out_refusals()
        blobs = BlobStore(settings.resolved_blobs_url)
        registry = Registry(catalog, settings.folder.models)
        self._registry, self._audit = registry, catalog.audit
        self._studio = Studio(self._generation, self._reward, catalog, blobs, registry)
        self._scoring = Scoring(self._reward, catalog, blobs, registry)

    # ---- generation

    @unary
    async def GenerateImages(self, request: Any, identity: Identity) -> Any:
        drawing, tally = _drawing(request, identity, stream=False), Tally()
        pictures = await self._studio.draw(drawing, tally)
        return generation_pb2.GenerateImagesResponse(
            request_id=drawing.request_id,
            images=[_image(picture) for picture in pictures],
            generator_version=tally.generator_version,
            reward_version=tally.reward_version,
            summary=_summary(tally),
        )

    @streaming
    async def StreamImages(self, request: Any, identity: Identity) -> AsyncIterator[Any]:
        drawing, tally = _drawing(request, identity, stream=True), Tally()
        sent = 0
        async for event in self._studio.stream(drawing, tally):
            if isinstance(event, Picture):
                sent += 1
                yield generation_pb2.StreamImagesResponse(image=_image(event))
                continue
            if isinstance(event, DrawPreview):
                yield generation_pb2.StreamImagesResponse(preview=_preview(event))
                continue
            progress = generation_pb2.GenerationProgress(
                images_done=sent,
                images_total=len(drawing.seeds),
                step=event.step,
                total_steps=event.total,
                elapsed_s=tally.elapsed_s,
            )
            yield generation_pb2.StreamImagesResponse(progress=progress)
        yield generation_pb2.StreamImagesResponse(summary=_summary(tally))

    @unary
    async def DescribeGenerator(self, request: Any, identity: Identity) -> Any:
        version = await asyncio.to_thread(self._digest, request.version)
        return _description(await self._generation.describe("", version))

    # ---- reward

    @unary
    async def ScoreImages(self, request: Any, identity: Identity) -> Any:
        request_id = validation.named(request.request_id)
        results = await self._scoring.score(_items(request, identity.owner), request_id, request.version)
        return reward_pb2.ScoreImagesResponse(
            scores=[_score(result) for result in results], reward_version=results[0].version
        )

    @streaming
    async def ScoreStream(self, request: Any, identity: Identity) -> AsyncIterator[Any]:
        first = await anext(aiter(request), None)
        if first is None:
            return
        request_id = validation.named(first.request_id)
        version = await self._scoring.pin(request_id, first.version)
        messages = _messages(first, request, identity.owner)
        async for results in self._scoring.stream(messages, request_id, version):
            yield reward_pb2.ScoreStreamResponse(results=[_result(result) for result in results])

    # ---- feedback

    @unary
    async def RecordRating(self, request: Any, identity: Identity) -> Any:
        return await self._feedback.RecordRating.remote(request, identity)

    @unary
    async def ImportRatings(self, request: Any, identity: Identity) -> Any:
        total = feedback_pb2.ImportRatingsResponse()
        offset = 0
        async for message in request:
            part = await self._feedback.import_ratings.remote(message, offset, identity)
            offset += len(message.ratings)
            total.recorded += part.recorded
            total.already_recorded += part.already_recorded
            total.failed += part.failed
            total.failures.extend(part.failures[: IMPORT_FAILURES - len(total.failures)])
        return total

    @unary
    async def ImportRealImages(self, request: Any, identity: Identity) -> Any:
        total = feedback_pb2.ImportRealImagesResponse()
        drawn = await self._generation.describe("", "")
        offset = 0
        async for message in request:
            part = await self._feedback.import_real_images.remote(message, offset, drawn)
            offset += len(message.images)
            total.stored += part.stored
            total.already_stored += part.already_stored
            total.failed += part.failed
            total.failures.extend(part.failures[: IMPORT_FAILURES - len(total.failures)])
        told = {"stored": total.stored, "already_stored": total.already_stored, "failed": total.failed}
        await asyncio.to_thread(self._audit.append, identity.name, "import of real images", "images", told)
        return total

    @unary
    async def ListRatings(self, request: Any, identity: Identity) -> Any:
        return await self._feedback.ListRatings.remote(request)

    @unary
    async def NextForReview(self, request: Any, identity: Identity) -> Any:
        return await self._feedback.NextForReview.remote(request, identity)

    @unary
    async def DescribeCriteria(self, request: Any, identity: Identity) -> Any:
        return await self._feedback.DescribeCriteria.remote(request)

    @unary
    async def DescribeCaller(self, request: Any, identity: Identity) -> Any:
        return feedback_pb2.DescribeCallerResponse(
            name=identity.name,
            role=identity.role,
            kinds=[f"RATING_KIND_{kind.upper()}" for kind in identity.kinds],
            any_rater="any-rater" in identity.scopes,
        )

    @unary
    async def GetImage(self, request: Any, identity: Identity) -> Any:
        return await self._feedback.GetImage.remote(request, identity)

    @unary
    async def ListImages(self, request: Any, identity: Identity) -> Any:
        return await self._feedback.ListImages.remote(request, identity)

    # ---- models

    @unary
    async def ListVersions(self, request: Any, identity: Identity) -> Any:
        return await self._operations.ListVersions.remote(request)

    @unary
    async def GetVersion(self, request: Any, identity: Identity) -> Any:
        return await self._operations.GetVersion.remote(request)

    @unary
    async def GetServing(self, request: Any, identity: Identity) -> Any:
        return await self._operations.GetServing.remote(request)

    @unary
    async def GetLineage(self, request: Any, identity: Identity) -> Any:
        return await self._operations.GetLineage.remote(request)

    # ---- rollouts

    @unary
    async def StartRollout(self, request: Any, identity: Identity) -> Any:
        return await self._operations.StartRollout.remote(request, identity.name)

    @unary
    async def PromoteRollout(self, request: Any, identity: Identity) -> Any:
        return await self._operations.PromoteRollout.remote(request, identity.name)

    @unary
    async def RollBackRollout(self, request: Any, identity: Identity) -> Any:
        return await self._operations.RollBackRollout.remote(request, identity.name)

    @unary
    async def PauseRollout(self, request: Any, identity: Identity) -> Any:
        return await self._operations.PauseRollout.remote(request, identity.name)

    @unary
    async def ResumeRollout(self, request: Any, identity: Identity) -> Any:
        return await self._operations.ResumeRollout.remote(request, identity.name)

    @unary
    async def GetServingHistory(self, request: Any, identity: Identity) -> Any:
        return await self._operations.GetServingHistory.remote(request)

    @unary
    async def ListAuditEntries(self, request: Any, identity: Identity) -> Any:
        return await self._operations.ListAuditEntries.remote(request)

    @unary
    async def VerifyAudit(self, request: Any, identity: Identity) -> Any:
        return await self._operations.VerifyAudit.remote(request)

    @unary
    async def ReplayImage(self, request: Any, identity: Identity) -> Any:
        return await self._operations.ReplayImage.remote(request)

    @unary
    async def GetRollout(self, request: Any, identity: Identity) -> Any:
        return await self._operations.GetRollout.remote(request)

    @streaming
    async def WatchRollout(self, request: Any, identity: Identity) -> AsyncIterator[Any]:
        async for rollout in stream(self._operations.WatchRollout, request):
            yield rollout

    @unary
    async def ListRollouts(self, request: Any, identity: Identity) -> Any:
        return await self._operations.ListRollouts.remote(request)

    # ---- training

    @unary
    async def StartTraining(self, request: Any, identity: Identity) -> Any:
        return await self._operations.StartTraining.remote(request, identity.name)

    @unary
    async def GetRun(self, request: Any, identity: Identity) -> Any:
        return await self._operations.GetRun.remote(request)

    @unary
    async def ListRuns(self, request: Any, identity: Identity) -> Any:
        return await self._operations.ListRuns.remote(request)

    @unary
    async def CancelRun(self, request: Any, identity: Identity) -> Any:
        return await self._operations.CancelRun.remote(request, identity.name)

    @streaming
    async def WatchRun(self, request: Any, identity: Identity) -> AsyncIterator[Any]:
        async for run in stream(self._operations.WatchRun, request):
            yield run

    # ---- inside

    async def overview(self) -> dict[str, Any]:
        """What the web page shows."""
        overview: dict[str, Any] = await self._operations.overview.remote()
        return overview

    def _digest(self, ref: str) -> str:
        return self._registry.get(ref).digest if ref else ""


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


def _optional(message: Any, field: str) -> Any:
    return getattr(message, field) if message.HasField(field) else None


def _drawing(request: Any, identity: Identity, *, stream: bool) -> validation.Drawing:
    return validation.check_drawing(
        request_id=request.request_id,
        prompt=request.prompt,
        count=_optional(request, "count"),
        seed=_optional(request, "seed"),
        steps=_optional(request, "steps"),
        guidance=_optional(request, "guidance"),
        version=request.version,
        score=request.score if request.HasField("score") else True,
        reward_version=request.reward_version,
        timeout_s=_optional(request, "timeout_s"),
        stream=stream,
        sampler=request.sampler,
        eta=request.eta,
        preview_every=request.preview_every if stream else 0,
        client=identity.client or identity.name,
        owner=identity.name,
        choice=guidance.choice_of(request),
    )


def _items(message: Any, owner: str | None) -> list[Item]:
    return [_item(item, owner) for item in message.items]


def _item(message: Any, owner: str | None) -> Item:
    """What is out of its limits in one item is that item's own outcome."""
    try:
        field_limits.check(message)
    except InvalidInput as error:
        return Item(item_id=message.item_id[:ITEM_ID_SHOWN], problem=error)
    return Item(
        item_id=message.item_id, data=message.data, digest=message.digest, prompt=message.prompt, owner=owner
    )


async def _messages(first: Any, rest: Any, owner: str | None) -> AsyncIterator[Sequence[Item]]:
    yield _items(first, owner)
    async for message in rest:
        yield _items(message, owner)


# ---- values to messages


def _image(picture: Picture) -> Any:
    record, score = picture.record, picture.score
    message = generation_pb2.GeneratedImage(
        data=picture.data,
        media_type=record.media_type,
        digest=record.digest,
        index=picture.index,
        width=record.width,
        height=record.height,
        prompt=record.prompt,
        seed=record.seed,
        sampler=record.sampler,
        steps=record.steps,
        guidance=record.guidance,
        generator_version=record.generator_version,
        generator_name=picture.version_name,
        created_at=Timestamp(),
        **guidance.fields_of(record.guidance_options),
    )
    message.created_at.FromDatetime(record.created_at)
    if score:
        message.reward_version, message.score, message.score_std = score.version, score.overall, score.std
        message.criterion_scores.update(score.criteria)
    return message


def _preview(told: DrawPreview) -> Any:
    return generation_pb2.ImagePreview(
        index=told.index, step=told.step, total_steps=told.total, data=told.data, media_type="image/png"
    )


def _summary(tally: Tally) -> Any:
    return generation_pb2.GenerationSummary(
        images=tally.images,
        generator_version=tally.generator_version,
        reward_version=tally.reward_version,
        engine_s=tally.engine_s,
        score_s=tally.score_s,
        total_s=tally.elapsed_s,
        whole_because=tally.whole_because,
    )


def _description(told: Description) -> Any:
    return generation_pb2.DescribeGeneratorResponse(
        generator_version=told.version,
        generator_name=told.version_name,
        width=told.width,
        height=told.height,
        sampler=told.sampler,
        default_steps=told.default_steps,
        default_guidance=told.default_guidance,
        open_vocabulary=not told.labels,
        labels=told.labels,
        attributes=[
            generation_pb2.PromptAttribute(name=name, values=values) for name, values in told.attributes
        ],
        example_prompts=told.examples,
        max_images_per_call=int(field_limits.number("GenerateImagesRequest.count").high),
        max_images_per_stream=int(field_limits.number("StreamImagesRequest.count").high),
        max_steps=int(field_limits.number("steps").high),
        max_guidance=field_limits.number("guidance").high,
        whole_because=told.whole_because,
        kernel=told.kernel,
        samplers=told.samplers,
        guidance_methods=[guidance.number_of(method) for method in told.guidance_methods],
        **guidance.fields_of(told.default_options, "default_"),
    )


def _score(result: Result) -> Any:
    outcome = result.outcome
    assert not isinstance(outcome, ItemRefusal)
    return reward_pb2.ImageScore(
        item_id=result.item_id,
        digest=result.digest,
        score=outcome.overall,
        score_std=outcome.std,
        criterion_scores=dict(outcome.criteria),
        reward_version=result.version,
    )


def _result(result: Result) -> Any:
    if isinstance(result.outcome, ItemRefusal):
        error = reward_pb2.ItemError(reason=result.outcome.reason, message=result.outcome.message)
        return reward_pb2.ScoreResult(item_id=result.item_id, error=error)
    return reward_pb2.ScoreResult(item_id=result.item_id, score=_score(result))
