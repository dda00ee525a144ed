"""The fake server's images and scores."""

# ruff: noqa: N802 - gRPC dispatches by the name of the RPC

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator
from typing import Any

from vouch import errors
from vouch.pb.v1 import feedback_pb2 as f
from vouch.pb.v1 import generation_pb2 as g
from vouch.pb.v1 import reward_pb2 as r
from vouch.testing.door import Caller
from vouch.testing.images import LABELS, SIZE, brightness, check_prompt, digest, flat_png
from vouch.testing.operations import NAMES, REWARD, FakeOperations


class FakeGeneration(FakeOperations):
    """Flat images by their seeds, and scores by brightness."""

    def __init__(self) -> None:
        super().__init__()
        self.images: dict[str, f.StoredImage] = {}
        """Every stored image by its digest; a test may add or change one."""
        self.scored: list[str] = []
        """Item ids that were scored, in their order."""
        self.stream_versions: list[str] = []
        """The reward version that each score stream named; "" is the one that serves."""
        self.break_after: int | None = None
        """Items after which every score stream ends with UNAVAILABLE; None: never."""
        self.hold_after: int | None = None
        """Items after which a score stream stays open and silent; None: never."""
        self.held = threading.Event()
        """Set when a score stream has fallen silent."""
        self.fallback_reason = ""
        """What DescribeGenerator answers as its `fallback_reason`."""
        self.losses = 0
        """Generation calls, score streams and imports that still end with UNAVAILABLE, as when a replica ends. A stream
        ends after its first image or results, an import when it has stored a message."""
        self.full_for_s: float | None = None
        """Seconds of the RetryInfo with which generation and review are refused as full; None: not full."""

    async def GenerateImages(
        self, request: g.GenerateImagesRequest, caller: Caller
    ) -> g.GenerateImagesResponse:
        self._lose()
        made = self._draw(request, 64)
        return g.GenerateImagesResponse(
            request_id=request.request_id, images=made, generator_version=self.champion, reward_version=REWARD
        )

    async def StreamImages(
        self, request: g.StreamImagesRequest, caller: Caller
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

    async def DescribeGenerator(
        self, request: g.DescribeGeneratorRequest, caller: Caller
    ) -> g.DescribeGeneratorResponse:
        shapes = g.PromptAttribute(name="nucleus_shape", values=["round", "irregular"])
        return g.DescribeGeneratorResponse(
            generator_version=self.champion, generator_name=NAMES[self.champion], width=SIZE, height=SIZE,
            sampler="fake", default_steps=4, default_guidance=2.0, labels=LABELS, attributes=[shapes],
            example_prompts=["neutrophil"], max_images_per_call=64, max_images_per_stream=10_000,
            fallback_reason=self.fallback_reason, kernel="eager in float32", samplers=["ddim", "euler"],
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
        check_prompt(request.prompt)
        drawn = [self._image(request.prompt, request.seed + index, index) for index in range(count)]
        for image in drawn:  # as asked
            image.guidance_method = request.guidance_method or g.GUIDANCE_METHOD_CFG
            image.guidance_start, image.guidance_stop = request.guidance_start, request.guidance_stop or 1.0
            image.adapter_start = request.adapter_start
            image.negative_prompt = request.negative_prompt
        return drawn

    def _image(self, prompt: str, seed: int, index: int) -> g.GeneratedImage:
        data = flat_png(seed)
        name = digest(data)
        score = (seed % 256) / 255
        self.images.setdefault(
            name,
            f.StoredImage(
                digest=name, data=data, media_type="image/png", width=SIZE, height=SIZE, prompt=prompt,
                source=f.IMAGE_SOURCE_GENERATED, seed=seed, generator_version=self.champion, score=score,
            ),
        )  # fmt: skip
        return g.GeneratedImage(
            data=data, media_type="image/png", digest=name, index=index, width=SIZE, height=SIZE,
            prompt=prompt, seed=seed, sampler="fake", steps=4, guidance=2.0, generator_version=self.champion,
            generator_name=NAMES[self.champion], reward_version=REWARD, score=score, score_std=0.05,
            criterion_scores={"cell_type": score},
        )  # fmt: skip

    async def ScoreImages(self, request: r.ScoreImagesRequest, caller: Caller) -> r.ScoreImagesResponse:
        return r.ScoreImagesResponse(
            scores=[self._score(item) for item in request.items], reward_version=REWARD
        )

    async def ScoreStream(
        self, requests: AsyncIterator[r.ScoreStreamRequest], caller: Caller
    ) -> AsyncIterator[r.ScoreStreamResponse]:
        first = True
        async for request in requests:
            if first:
                self.stream_versions.append(request.version)
                first = False
            if self.hold_after is not None and len(self.scored) >= self.hold_after:
                self.held.set()
                await asyncio.Event().wait()
            if self.break_after is not None and len(self.scored) >= self.break_after:
                raise errors.Unavailable("The reward model went away. Try again.")
            yield r.ScoreStreamResponse(results=[self._result(item) for item in reversed(request.items)])
            self._lose()

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
            item_id=item.item_id, digest=digest(data), score=value, score_std=0.05,
            criterion_scores={"cell_type": value}, reward_version=REWARD,
        )  # fmt: skip

    def _stored(self, digest: str) -> f.StoredImage:
        if digest not in self.images:
            raise errors.NotFound(f"There is no image {digest}.", "UNKNOWN_IMAGE")
        return self.images[digest]
