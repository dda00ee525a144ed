"""From a checked request to stored pictures: draw, score, store, with the provenance of each. No Ray, no protobuf.

A picture is handed out only when its bytes and its record are durable. A repeat of a request id finds what is stored
and draws only what is missing, on the version that drew the rest.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncGenerator, AsyncIterator, Iterator, Sequence
from contextlib import aclosing
from dataclasses import dataclass, field, replace
from typing import Protocol

from services import metrics
from services.gateway.validation import Drawing
from services.generation.orders import Description, Drawn, DrawOrder, DrawPreview, DrawProgress
from services.reward.orders import ItemRefusal, ScoreOrder, ScoreReply
from vouch.errors import AlreadyExists, DeadlineExceeded, Internal, InvalidInput
from vouch.storage.blobs import BlobStore
from vouch.storage.catalog import Catalog
from vouch.storage.registry import Registry
from vouch.types.records import ImageRecord, Score
from vouch.types.samplers import plain_name, sampler_name

CHUNK = 16  # images of a stream that are drawn, scored and stored together
GRACE_S = 0.5  # seconds
IN_FLIGHT = 2  # chunks at once: one is drawn while the one before is scored and stored


class GenerationPort(Protocol):
    """The generation deployment, as the gateway sees it."""

    async def draw_all(self, order: DrawOrder) -> list[Drawn]: ...
    def draw(self, order: DrawOrder) -> AsyncGenerator[DrawProgress | DrawPreview | Drawn, None]: ...
    async def describe(self, request_id: str, version: str, client: str = "") -> Description: ...


class RewardPort(Protocol):
    """The reward deployment, as the gateway sees it."""

    async def score(self, order: ScoreOrder) -> ScoreReply: ...
    async def resolve(self, request_id: str, version: str) -> str: ...


@dataclass(frozen=True, kw_only=True)
class Picture:
    """A stored image of the request."""

    index: int
    record: ImageRecord
    version_name: str
    data: bytes
    score: Score | None


@dataclass(frozen=True, kw_only=True)
class Step:
    """How far the chunk that is being drawn has come."""

    step: int
    total: int


Event = Step | DrawPreview | Picture
"""What happens in a stream."""


@dataclass
class Tally:
    """What one call has used so far. Seconds."""

    started: float = field(default_factory=time.perf_counter)
    images: int = 0
    engine_s: float = 0.0
    score_s: float = 0.0
    generator_version: str = ""
    reward_version: str = ""
    whole_because: str = ""

    @property
    def elapsed_s(self) -> float:
        return time.perf_counter() - self.started

    def add(self, pictures: Sequence[Picture], engine_s: float, score_s: float) -> None:
        self.images += len(pictures)
        self.engine_s += engine_s
        self.score_s += score_s
        for picture in pictures:
            self.generator_version = picture.record.generator_version
            self.reward_version = picture.score.version if picture.score else self.reward_version


class Studio:
    """Draws, scores and stores."""

    def __init__(
        self,
        generation: GenerationPort,
        reward: RewardPort,
        catalog: Catalog,
        blobs: BlobStore,
        registry: Registry,
    ) -> None:
        self._generation, self._reward = generation, reward
        self._catalog, self._blobs, self._registry = catalog, blobs, registry

    async def draw(self, drawing: Drawing, tally: Tally) -> list[Picture]:
        """All pictures of a unary call, in order. Raises what the deployments and the stores raise."""
        try:
            return await asyncio.wait_for(self._draw(drawing, tally), _patience_s(drawing))
        except asyncio.TimeoutError as error:
            raise _too_late(drawing) from error

    async def stream(self, drawing: Drawing, tally: Tally) -> AsyncIterator[Event]:
        """Pictures as soon as they are stored, with steps between them. Leaving early stops the drawing."""
        drawing, stored = await self._resume(drawing)
        for picture in stored:
            tally.add([picture], 0.0, 0.0)
            yield picture
        missing = _missing(drawing, stored)
        if not missing:
            return
        drawing = await self._pinned(drawing)
        async with aclosing(self._pump(drawing, missing, tally)) as events:
            async for event in events:
                yield event

    # ---- one call

    async def _draw(self, drawing: Drawing, tally: Tally) -> list[Picture]:
        drawing, stored = await self._resume(drawing)
        for picture in stored:
            tally.add([picture], 0.0, 0.0)
        missing = _missing(drawing, stored)
        drawn = await self._generation.draw_all(_order(drawing, missing, tally.elapsed_s)) if missing else []
        return sorted([*stored, *await self._keep(drawing, drawn, tally)], key=lambda picture: picture.index)

    async def _resume(self, drawing: Drawing) -> tuple[Drawing, list[Picture]]:
        """The request with its versions as digests, and what an earlier call of the same id has stored."""
        return await asyncio.to_thread(self._resume_now, drawing)

    def _resume_now(self, drawing: Drawing) -> tuple[Drawing, list[Picture]]:
        drawing = replace(
            drawing,
            version=self._digest(drawing.version, "generator"),
            reward_version=self._digest(drawing.reward_version, "reward"),
        )
        records = list(self._stored(drawing))
        if not records:
            return drawing, []
        _check_same(drawing, records)
        stored = [self._restored(drawing, record) for record in records if record.seed in drawing.seeds]
        return replace(drawing, version=records[0].generator_version), stored

    def _stored(self, drawing: Drawing) -> Iterator[ImageRecord]:
        token = ""
        while True:
            page = self._catalog.images.list(
                owner=drawing.owner, request_id=drawing.request_id, page_size=1000, page_token=token
            )
            yield from page.items
            token = page.next_token
            if not token:
                return

    def _restored(self, drawing: Drawing, record: ImageRecord) -> Picture:
        scores = self._catalog.images.scores(record.digest) if drawing.score else ()
        return Picture(
            index=drawing.seeds.index(record.seed if record.seed is not None else -1),
            record=record,
            version_name=self._registry.get(record.generator_version).name,
            data=self._blobs.get(record.digest),
            score=scores[0] if scores else None,
        )

    def _digest(self, ref: str, kind: str) -> str:
        if not ref:
            return ""
        version = self._registry.get(ref)
        if version.kind != kind:
            raise InvalidInput(f"{version.name} is a {version.kind}, not a {kind}: name one of that kind.")
        return version.digest

    async def _keep(self, drawing: Drawing, drawn: Sequence[Drawn], tally: Tally) -> list[Picture]:
        """Score and store. When this returns, everything is durable."""
        if not drawn:
            return []
        data = [image.data for image in drawn]
        digests, reply = await asyncio.gather(
            asyncio.to_thread(lambda: [self._blobs.put(one) for one in data]), self._score(drawing, data)
        )
        pictures = [
            _picture(drawing, image, digest, reply, row)
            for row, (image, digest) in enumerate(zip(drawn, digests, strict=True))
        ]
        records = [picture.record for picture in pictures]
        scores = [picture.score for picture in pictures if picture.score]
        await asyncio.to_thread(lambda: self._catalog.images.add(records, scores, owner=drawing.owner))
        batch_s = max(image.engine_s for image in drawn)
        tally.whole_because = drawn[0].whole_because
        metrics.IMAGES.inc(len(pictures))
        tally.add(pictures, batch_s, reply.score_s if reply else 0.0)
        return pictures

    async def _score(self, drawing: Drawing, data: Sequence[bytes]) -> ScoreReply | None:
        if not drawing.score:
            return None
        items = tuple((one, drawing.prompt) for one in data)
        order = ScoreOrder(request_id=drawing.request_id, items=items, version=drawing.reward_version)
        return await self._reward.score(order)

    # ---- a stream

    async def _pinned(self, drawing: Drawing) -> Drawing:
        """The whole stream stays on the versions that it begins with, whatever a rollout does meanwhile."""
        generator, reward = await asyncio.gather(
            self._generation.describe(drawing.request_id, drawing.version, drawing.client),
            self._reward.resolve(drawing.request_id, drawing.reward_version) if drawing.score else _nothing(),
        )
        return replace(drawing, version=generator.version, reward_version=reward)

    async def _pump(self, drawing: Drawing, missing: list[int], tally: Tally) -> AsyncGenerator[Event, None]:
        chunks = iter([missing[start : start + CHUNK] for start in range(0, len(missing), CHUNK)])
        events: asyncio.Queue[Event | Exception] = asyncio.Queue(maxsize=4 * CHUNK)
        workers = [asyncio.create_task(self._work(chunks, drawing, tally, events)) for _ in range(IN_FLIGHT)]
        left = len(missing)
        try:
            while left:
                event = await _next(events, drawing, tally)
                left -= isinstance(event, Picture)
                yield event
        finally:
            for worker in workers:
                worker.cancel()
            await asyncio.gather(*workers, return_exceptions=True)

    async def _work(
        self,
        chunks: Iterator[list[int]],
        drawing: Drawing,
        tally: Tally,
        events: asyncio.Queue[Event | Exception],
    ) -> None:
        try:
            for chunk in chunks:
                drawn: list[Drawn] = []
                async with aclosing(
                    self._generation.draw(_order(drawing, chunk, tally.elapsed_s, progress=True))
                ) as answers:
                    async for answer in answers:
                        if isinstance(answer, Drawn):
                            drawn.append(answer)
                        elif isinstance(answer, DrawPreview):
                            await events.put(answer)
                        else:
                            await events.put(Step(step=answer.step, total=answer.total))
                for picture in await self._keep(drawing, drawn, tally):
                    await events.put(picture)
        except Exception as error:  # noqa: BLE001 - raised again where the stream is read
            await events.put(error)


async def _next(events: asyncio.Queue[Event | Exception], drawing: Drawing, tally: Tally) -> Event:
    patience_s = _patience_s(drawing)
    left_s = None if patience_s is None else max(0.0, patience_s - tally.elapsed_s)
    try:
        event = await asyncio.wait_for(events.get(), left_s)
    except asyncio.TimeoutError as error:
        raise _too_late(drawing) from error
    if isinstance(event, Exception):
        raise event
    return event


async def _nothing() -> str:
    return ""


def _missing(drawing: Drawing, stored: Sequence[Picture]) -> list[int]:
    there = {picture.index for picture in stored}
    return [index for index in range(len(drawing.seeds)) if index not in there]


def _check_same(drawing: Drawing, records: Sequence[ImageRecord]) -> None:
    for record in records:
        same = (
            record.prompt == drawing.prompt
            and drawing.steps in (None, record.steps)
            and drawing.guidance in (None, record.guidance)
            and drawing.choice.agrees_with(record.guidance_options)
            and sampler_name(drawing.sampler or plain_name(record.sampler), drawing.eta) == record.sampler
            and drawing.version in ("", record.generator_version)
        )
        if not same:
            raise AlreadyExists(
                f"request_id {drawing.request_id!r} was already used for other images. Use a fresh one.",
                "REQUEST_ID_REUSED",
            )


def _picture(drawing: Drawing, image: Drawn, digest: str, reply: ScoreReply | None, row: int) -> Picture:
    record = ImageRecord(
        digest=digest,
        media_type="image/png",
        width=image.width,
        height=image.height,
        size_bytes=len(image.data),
        source="generated",
        prompt=drawing.prompt,
        label=image.label,
        seed=image.seed,
        sampler=image.sampler,
        steps=image.steps,
        guidance=image.guidance,
        guidance_method=image.options.method,
        guidance_start=image.options.start,
        guidance_stop=image.options.stop,
        adapter_start=image.options.adapter_start,
        generator_version=image.version,
        request_id=drawing.request_id,
    )
    score = _score_of(reply, row, digest) if reply else None
    return Picture(
        index=image.index, record=record, version_name=image.version_name, data=image.data, score=score
    )


def _score_of(reply: ScoreReply, row: int, digest: str) -> Score | None:
    """None when the reward model does not know what this prompt asks for, as with a foreign generator."""
    outcome = reply.outcomes[row]
    if isinstance(outcome, ItemRefusal):
        if outcome.reason == Internal.reason:
            raise Internal(outcome.message)
        return None
    return Score(
        image=digest,
        version=reply.version,
        overall=outcome.overall,
        std=outcome.std,
        criteria=dict(outcome.criteria),
    )


def _patience_s(drawing: Drawing) -> float | None:
    """A moment more than the caller's own, in which the engine says what it let go, and why."""
    return None if drawing.timeout_s is None else drawing.timeout_s + GRACE_S


def _too_late(drawing: Drawing) -> DeadlineExceeded:
    return DeadlineExceeded(
        f"The {len(drawing.seeds)} images were not ready within timeout_s = {drawing.timeout_s:g} seconds. "
        "Allow more, or ask for fewer images or steps."
    )


def _order(
    drawing: Drawing, indices: Sequence[int], elapsed_s: float, *, progress: bool = False
) -> DrawOrder:
    return DrawOrder(
        request_id=drawing.request_id,
        prompt=drawing.prompt,
        seeds=tuple(drawing.seeds[index] for index in indices),
        indices=tuple(indices),
        steps=drawing.steps,
        guidance=drawing.guidance,
        version=drawing.version,
        client=drawing.client,
        progress=progress,
        sampler=drawing.sampler,
        eta=drawing.eta,
        preview_every=drawing.preview_every if progress else 0,
        timeout_s=None if drawing.timeout_s is None else max(0.0, drawing.timeout_s - elapsed_s),
        choice=drawing.choice,
    )
