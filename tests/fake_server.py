"""A whole small vouch system for tests of clients: real gRPC, real auth and error translation, state in memory.

    with running_system(tmp_path / "state") as system:
        ...  # system.state has an access.json, system.ratings what was rated

Images are flat colours painted from the seed; a score is the mean brightness of the image.
"""

# ruff: noqa: N802 - gRPC dispatches by the name of the RPC

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import grpc
import numpy as np

from services import edge
from tests.fake_operations import NAMES, REWARD, Call, FakeOperations, page
from tests.keys import FixedKeys
from vouch import errors
from vouch.domains.criteria import shipped_domain
from vouch.formats import images
from vouch.pb.v1 import feedback_pb2 as f
from vouch.pb.v1 import (
    feedback_pb2_grpc,
    generation_pb2_grpc,
    models_pb2_grpc,
    reward_pb2_grpc,
    rollout_pb2_grpc,
    training_pb2_grpc,
)
from vouch.pb.v1 import generation_pb2 as g
from vouch.pb.v1 import reward_pb2 as r
from vouch.storage.state import Access, StateFolder

TOKENS = {"client": "client-token", "rater": "rater-token", "operator": "operator-token"}
LABELS = ("lymphocyte", "neutrophil", "platelet")
SIZE = 16


def paint(seed: int) -> bytes:
    """A PNG whose brightness follows the seed."""
    return images.encode_png(np.full((SIZE, SIZE, 3), seed % 256, dtype=np.uint8))


def brightness(data: bytes) -> float:
    return float(images.decode(data).mean()) / 255


def _check_words(prompt: str) -> None:
    if prompt.partition(",")[0] not in LABELS:
        known = ", ".join(LABELS)
        raise errors.InvalidInput(f"Unknown word in {prompt!r}. Known: {known}.", "UNKNOWN_LABEL")


class FakeSystem(FakeOperations):
    """Every RPC of the contract over dictionaries. `access` is what `services.edge` asks for."""

    def __init__(self, state: Path) -> None:
        super().__init__()
        self.state = state
        self.access = edge.AccessControl(FixedKeys(TOKENS))
        self.images: dict[str, f.StoredImage] = {}
        self.ratings: list[f.Rating] = []
        self.by_request: dict[str, f.Rating] = {}
        self.scored: list[str] = []
        self.stream_versions: list[str] = []
        self.break_after: int | None = None
        """Items after which a score stream ends with UNAVAILABLE; None never."""
        self.hold_after: int | None = None
        """Items after which a score stream says nothing more; None never."""
        self.held = threading.Event()
        """That it says nothing more now."""
        self.whole_because = ""
        self.losses = 0
        """Calls to draw that still end because a replica ended; a stream does so after its first image."""
        self.full_for_s: float | None = None
        """Seconds for which the queue is full; None is not."""

    # generation

    @edge.unary
    async def GenerateImages(self, request: g.GenerateImagesRequest, who: Call) -> g.GenerateImagesResponse:
        self._lose()
        made = self._draw(request, 64)
        return g.GenerateImagesResponse(
            request_id=request.request_id, images=made, generator_version=self.champion, reward_version=REWARD
        )

    @edge.streaming
    async def StreamImages(
        self, request: g.StreamImagesRequest, who: Call
    ) -> AsyncIterator[g.StreamImagesResponse]:
        made = self._draw(request, 10_000)
        for number, image in enumerate(made):
            progress = g.GenerationProgress(images_done=number, images_total=len(made), step=1, total_steps=2)
            yield g.StreamImagesResponse(progress=progress)
            if request.preview_every:
                preview = g.ImagePreview(index=number, step=1, total_steps=2, data=image.data)
                yield g.StreamImagesResponse(preview=preview)
            yield g.StreamImagesResponse(image=image)
            self._lose()
        summary = g.GenerationSummary(images=len(made), generator_version=self.champion, total_s=0.5)
        yield g.StreamImagesResponse(summary=summary)

    @edge.unary
    async def DescribeGenerator(
        self, request: g.DescribeGeneratorRequest, who: Call
    ) -> g.DescribeGeneratorResponse:
        shapes = g.PromptAttribute(name="nucleus_shape", values=["round", "irregular"])
        return g.DescribeGeneratorResponse(
            generator_version=self.champion, generator_name=NAMES[self.champion], width=SIZE, height=SIZE,
            sampler="fake", default_steps=4, default_guidance=2.0, labels=LABELS, attributes=[shapes],
            example_prompts=["neutrophil"], max_images_per_call=64, max_images_per_stream=10_000,
            whole_because=self.whole_because, kernel="eager in float32", samplers=["ddim", "euler"],
        )  # fmt: skip

    def _lose(self) -> None:
        if self.losses > 0:
            self.losses -= 1
            raise errors.Unavailable("The part of the system that this call needs is restarting.")

    def _draw(self, request: Any, most: int) -> list[g.GeneratedImage]:
        if self.full_for_s is not None:
            raise errors.Exhausted("The queue is full.", retry_after_s=self.full_for_s)
        count = request.count if request.HasField("count") else 1
        if not 1 <= count <= most:
            raise errors.InvalidInput(f"count is {count}; ask for 1 to {most} images.")
        _check_words(request.prompt)
        drawn = [self._image(request.prompt, request.seed + index, index) for index in range(count)]
        for image in drawn:  # as asked
            image.guidance_method = request.guidance_method or g.GUIDANCE_METHOD_CFG
            image.guidance_start, image.guidance_stop = request.guidance_start, request.guidance_stop or 1.0
            image.adapter_start = request.adapter_start
        return drawn

    def _image(self, prompt: str, seed: int, index: int) -> g.GeneratedImage:
        data = paint(seed)
        digest = images.digest(data)
        score = brightness(data)
        self.images.setdefault(
            digest,
            f.StoredImage(
                digest=digest, data=data, media_type="image/png", width=SIZE, height=SIZE, prompt=prompt,
                source=f.IMAGE_SOURCE_GENERATED, seed=seed, generator_version=self.champion, score=score,
            ),
        )  # fmt: skip
        return g.GeneratedImage(
            data=data, media_type="image/png", digest=digest, index=index, width=SIZE, height=SIZE,
            prompt=prompt, seed=seed, sampler="fake", steps=4, guidance=2.0, generator_version=self.champion,
            generator_name=NAMES[self.champion], reward_version=REWARD, score=score, score_std=0.05,
            criterion_scores={"cell_type": score},
        )  # fmt: skip

    # reward

    @edge.unary
    async def ScoreImages(self, request: r.ScoreImagesRequest, who: Call) -> r.ScoreImagesResponse:
        return r.ScoreImagesResponse(
            scores=[self._score(item) for item in request.items], reward_version=REWARD
        )

    @edge.streaming
    async def ScoreStream(
        self, requests: AsyncIterator[r.ScoreStreamRequest], who: Call
    ) -> AsyncIterator[r.ScoreStreamResponse]:
        first = True
        async for request in requests:
            if first:
                self.stream_versions.append(request.version)
                first = False
            if self.hold_after is not None and len(self.scored) >= self.hold_after:
                self.held.set()
                await asyncio.Event().wait()
            yield r.ScoreStreamResponse(results=[self._result(item) for item in reversed(request.items)])
            if self.break_after is not None and len(self.scored) >= self.break_after:
                raise errors.Unavailable("The reward model went away. Try again.")

    def _result(self, item: r.ScoreItem) -> r.ScoreResult:
        try:
            return r.ScoreResult(item_id=item.item_id, score=self._score(item))
        except errors.VouchError as error:
            return r.ScoreResult(
                item_id=item.item_id, error=r.ItemError(reason=error.reason, message=error.message)
            )

    def _score(self, item: r.ScoreItem) -> r.ImageScore:
        data = item.data or self._stored(item.digest).data
        value = brightness(data)
        self.scored.append(item.item_id)
        return r.ImageScore(
            item_id=item.item_id, digest=images.digest(data), score=value, score_std=0.05,
            criterion_scores={"cell_type": value}, reward_version=REWARD,
        )  # fmt: skip

    def _stored(self, digest: str) -> f.StoredImage:
        if digest not in self.images:
            raise errors.NotFound(f"There is no image {digest}.", "UNKNOWN_IMAGE")
        return self.images[digest]

    # feedback

    @edge.unary
    async def RecordRating(self, request: f.RecordRatingRequest, who: Call) -> f.Rating:
        return self._record(request)

    def _record(self, request: f.RecordRatingRequest) -> f.Rating:
        if request.request_id in self.by_request:
            return self.by_request[request.request_id]
        self._stored(request.rating.image_digest)
        rating = f.Rating()
        rating.CopyFrom(request.rating)
        rating.rating_id = f"rating-{len(self.ratings) + 1}"
        rating.domain = "blood_cells"
        rating.request_id = request.request_id
        if not rating.HasField("created_at"):
            rating.created_at.GetCurrentTime()
        self.ratings.append(rating)
        self.by_request[request.request_id] = rating
        return rating

    @edge.unary
    async def ImportRatings(
        self, requests: AsyncIterator[f.ImportRatingsRequest], who: Call
    ) -> f.ImportRatingsResponse:
        answer = f.ImportRatingsResponse()
        index = 0
        async for request in requests:
            for one in request.ratings:
                self._import(one, index, answer)
                index += 1
        return answer

    def _import(self, one: f.Rating, index: int, answer: f.ImportRatingsResponse) -> None:
        known = one.request_id in self.by_request
        try:
            self._record(f.RecordRatingRequest(request_id=one.request_id, rating=one))
        except errors.VouchError as error:
            answer.failed += 1
            answer.failures.add(
                index=index, request_id=one.request_id, reason=error.reason, message=error.message
            )
            return
        if known:
            answer.already_recorded += 1
        else:
            answer.recorded += 1

    @edge.unary
    async def ImportRealImages(
        self, requests: AsyncIterator[f.ImportRealImagesRequest], who: Call
    ) -> f.ImportRealImagesResponse:
        answer = f.ImportRealImagesResponse()
        index = 0
        async for request in requests:
            for one in request.images:
                self._import_real(one, index, answer)
                index += 1
        return answer

    def _import_real(self, one: f.RealImage, index: int, answer: f.ImportRealImagesResponse) -> None:
        try:
            _check_words(one.prompt)
            data = images.encode_png(images.fitted(images.decode(one.data), SIZE, SIZE))
        except errors.VouchError as error:
            answer.failed += 1
            answer.failures.add(index=index, reason=error.reason, message=error.message)
            return
        digest = images.digest(data)
        answer.already_stored += digest in self.images
        answer.stored += digest not in self.images
        stored = f.StoredImage(
            digest=digest, data=data, media_type="image/png", width=SIZE, height=SIZE, prompt=one.prompt,
            source=f.IMAGE_SOURCE_REAL,
        )  # fmt: skip
        self.images.setdefault(digest, stored)

    @edge.unary
    async def ListRatings(self, request: f.ListRatingsRequest, who: Call) -> f.ListRatingsResponse:
        superseded = {rating.supersedes for rating in self.ratings}
        kept = [
            rating
            for rating in reversed(self.ratings)
            if (request.include_superseded or rating.rating_id not in superseded)
            and request.image_digest in ("", rating.image_digest)
            and request.rater in ("", rating.rater)
            and request.kind in (0, rating.kind)
        ]
        start, end, token = page(request, len(kept))
        return f.ListRatingsResponse(ratings=kept[start:end], next_page_token=token)

    @edge.unary
    async def NextForReview(self, request: f.NextForReviewRequest, who: Call) -> f.NextForReviewResponse:
        done = {rating.image_digest for rating in self.ratings if rating.rater == request.rater}
        left = [image for digest, image in self.images.items() if digest not in done]
        if self.full_for_s is not None:
            raise errors.Exhausted("The queue is full.", retry_after_s=self.full_for_s)
        count = request.count if request.HasField("count") else 1
        items = [
            f.ReviewItem(
                digest=i.digest,
                data=i.data,
                media_type=i.media_type,
                width=SIZE,
                height=SIZE,
                prompt=i.prompt,
            )
            for i in left[:count]
        ]
        return f.NextForReviewResponse(items=items)

    @edge.unary
    async def DescribeCriteria(
        self, request: f.DescribeCriteriaRequest, who: Call
    ) -> f.DescribeCriteriaResponse:
        domain = shipped_domain(request.domain or "blood_cells")
        asked = [
            f.Criterion(criterion_id=c.id, question=c.question, help=c.help) for c in domain.criteria[:2]
        ]
        return f.DescribeCriteriaResponse(domain=domain.name, title=domain.title, criteria=asked)

    @edge.unary
    async def DescribeCaller(self, request: f.DescribeCallerRequest, who: Call) -> f.DescribeCallerResponse:
        return f.DescribeCallerResponse(name=who.name, role=who.role, any_rater="any-rater" in who.scopes)

    @edge.unary
    async def GetImage(self, request: f.GetImageRequest, who: Call) -> f.StoredImage:
        return self._stored(request.digest)

    @edge.unary
    async def ListImages(self, request: f.ListImagesRequest, who: Call) -> f.ListImagesResponse:
        kept = list(self.images.values())
        start, end, token = page(request, len(kept))
        return f.ListImagesResponse(images=kept[start:end], next_page_token=token)


_REGISTER = (
    generation_pb2_grpc.add_GenerationServiceServicer_to_server,
    reward_pb2_grpc.add_RewardServiceServicer_to_server,
    feedback_pb2_grpc.add_FeedbackServiceServicer_to_server,
    models_pb2_grpc.add_ModelsServiceServicer_to_server,
    rollout_pb2_grpc.add_RolloutServiceServicer_to_server,
    training_pb2_grpc.add_TrainingServiceServicer_to_server,
)


@contextlib.contextmanager
def running_system(state: Path) -> Iterator[FakeSystem]:
    """Serves a `FakeSystem` on a free port until the block ends; the state folder tells clients where."""
    system = FakeSystem(state)
    started: list[Any] = []
    ready = threading.Event()

    def serve() -> None:
        loop = asyncio.new_event_loop()
        stop = asyncio.Event()
        started.extend([loop, stop])
        loop.run_until_complete(_serve(system, stop, ready))
        loop.close()

    thread = threading.Thread(target=serve, daemon=True)
    thread.start()
    assert ready.wait(30)
    loop, stop = started
    try:
        yield system
    finally:
        loop.call_soon_threadsafe(stop.set)
        thread.join(30)


async def _serve(system: FakeSystem, stop: asyncio.Event, ready: threading.Event) -> None:
    server = grpc.aio.server(options=[("grpc.max_receive_message_length", -1)])
    for register in _REGISTER:
        register(system, server)
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    folder = StateFolder(system.state).create()
    folder.write_access(Access(address=f"127.0.0.1:{port}", http="http://127.0.0.1:1", tokens=TOKENS))
    ready.set()
    await stop.wait()
    await server.stop(None)
