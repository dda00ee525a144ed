"""Scoring of uploaded images: single messages and whole datasets. Nothing is stored. No Ray, no protobuf."""

from __future__ import annotations

import asyncio
import hashlib
import re
from collections.abc import AsyncGenerator, AsyncIterator, Iterator, Sequence
from dataclasses import dataclass, replace

from services.budget import WeightedSemaphore
from services.gateway import validation
from services.gateway.ports import RewardPort
from services.reward.messages import ScoreRequest
from vouch.errors import Internal, InvalidInput, NotFound, VouchError
from vouch.storage.blobs import BlobStore
from vouch.storage.catalog import Catalog
from vouch.storage.registry import Registry
from vouch.types.score import ImageScore, ItemError, ScoreItem, ScoreResult

IN_FLIGHT = 4  # messages of a stream at once: one is decoded while another is scored and a third is read
BYTES_AT_ONCE = 48 * 2**20  # encoded images on their way to the reward model, of all calls together
BYTES_WAITING = 256 * 2**20  # and of calls that wait for their turn; more are refused
_DIGEST = re.compile(r"[0-9a-f]{64}")


Asked = ScoreItem | ScoreResult
"""An item to score, or the result of an invalid one."""


@dataclass(frozen=True)
class _Call:
    """Parameters common to all items of a call. version: a digest. owner: as in `Scoring.score`."""

    request_id: str
    version: str
    owner: str | None
    needs_id: bool


class Scoring:
    """Hands items to the reward deployment."""

    def __init__(self, reward: RewardPort, catalog: Catalog, blobs: BlobStore, registry: Registry) -> None:
        self._reward, self._catalog, self._blobs, self._registry = reward, catalog, blobs, registry
        self._bytes = WeightedSemaphore(BYTES_AT_ONCE, BYTES_WAITING, "images to score")

    async def score(
        self, items: Sequence[Asked], request_id: str, version: str, owner: str | None
    ) -> list[ImageScore]:
        """All scores, in the order of the items. One bad item fails the call, by name.

        owner: whose stored images may be named; None: everybody's.
        """
        validation.check_items(len(items))
        digest = await self.pin(request_id, version)
        results = await self._outcomes(items, _Call(request_id, digest, owner, needs_id=False))
        return [_score_or_raise(position, result) for position, result in enumerate(results)]

    async def stream(
        self, messages: AsyncIterator[Sequence[Asked]], request_id: str, version: str, owner: str | None
    ) -> AsyncGenerator[list[ScoreResult], None]:
        """Results as they come, one list for each message. A bad item is a result of its own. version: a digest."""
        call = _Call(request_id, version, owner, needs_id=True)
        turn = asyncio.Lock()
        answers: asyncio.Queue[list[ScoreResult] | Exception | None] = asyncio.Queue(maxsize=IN_FLIGHT)
        workers = [asyncio.create_task(self._work(messages, turn, answers, call)) for _ in range(IN_FLIGHT)]
        ended = 0
        try:
            while ended < len(workers):
                answer = await answers.get()
                if isinstance(answer, Exception):
                    raise answer
                if answer is None:
                    ended += 1
                else:
                    yield answer
        finally:
            for worker in workers:
                worker.cancel()
            await asyncio.gather(*workers, return_exceptions=True)

    async def pin(self, request_id: str, version: str) -> str:
        """The digest of the version that the whole call stays on. Raises NotFound, CorruptVersion, Unavailable."""
        return await self._reward.resolve(
            request_id, await asyncio.to_thread(self._registry.digest, version, "reward")
        )

    async def _work(
        self,
        messages: AsyncIterator[Sequence[Asked]],
        turn: asyncio.Lock,
        answers: asyncio.Queue[list[ScoreResult] | Exception | None],
        call: _Call,
    ) -> None:
        try:
            while True:
                async with turn:
                    items = await anext(messages, None)
                if items is None:
                    break
                validation.check_items(len(items))
                await answers.put(await self._outcomes(items, call))
            await answers.put(None)
        except Exception as error:  # noqa: BLE001 - raised again where the stream is read
            await answers.put(error)

    async def _outcomes(self, items: Sequence[Asked], call: _Call) -> list[ScoreResult]:
        sources = await asyncio.to_thread(lambda: [self._find(item, call) for item in items])
        good = tuple(pair for pair in sources if not isinstance(pair, ItemError))
        scored: Iterator[ImageScore | ItemError] = iter(())
        if good:
            request = ScoreRequest(request_id=call.request_id, items=good, version=call.version)
            async with self._bytes.hold(sum(len(data) for data, _ in good)):
                scored = iter((await self._reward.score(request)).outcomes)
        return [
            _result(item, pair, pair if isinstance(pair, ItemError) else next(scored), call.version)
            for item, pair in zip(items, sources, strict=True)
        ]

    def _find(self, item: Asked, call: _Call) -> tuple[bytes, str] | ItemError:
        """The bytes and the prompt of an item, or why there are none."""
        if isinstance(item, ScoreResult):
            assert item.error is not None
            return item.error
        try:
            validation.check_item_id(item.item_id, needed=call.needs_id)
            if not item.data and not item.digest:
                raise InvalidInput("The item has no image: send its bytes, or the digest of a stored one.")
            data, prompt = (item.data, item.prompt) if item.data else self._stored(item, call.owner)
            return data, validation.check_prompt(prompt)
        except VouchError as error:
            return ItemError(reason=error.reason, message=error.message)

    def _stored(self, item: ScoreItem, owner: str | None) -> tuple[bytes, str]:
        digest = item.digest or ""
        if not _DIGEST.fullmatch(digest):
            raise InvalidInput(
                f"{digest[:80]!r} is not a digest: 64 lower-case hexadecimal digits are expected."
            )
        record = self._catalog.images.get(digest, owner=owner)
        return self._blobs.get(digest), item.prompt or record.prompt


def _result(
    item: Asked, source: tuple[bytes, str] | ItemError, outcome: ImageScore | ItemError, version: str
) -> ScoreResult:
    if isinstance(outcome, ItemError) or isinstance(source, ItemError) or isinstance(item, ScoreResult):
        return ScoreResult(item_id=item.item_id, error=outcome if isinstance(outcome, ItemError) else None)
    digest = item.digest or hashlib.sha256(source[0]).hexdigest()
    return ScoreResult(
        item_id=item.item_id,
        score=replace(outcome, item_id=item.item_id, digest=digest, reward_version=version),
    )


def _score_or_raise(position: int, result: ScoreResult) -> ImageScore:
    if result.score is not None:
        return result.score
    assert result.error is not None
    name = f"Image {position}" + (f" ({result.item_id})" if result.item_id else "")
    message = f"{name}: {result.error.message}"
    if result.error.reason == Internal.reason:
        raise Internal(message)
    if result.error.reason.endswith("NOT_FOUND"):
        raise NotFound(message, result.error.reason)
    raise InvalidInput(message, result.error.reason)
