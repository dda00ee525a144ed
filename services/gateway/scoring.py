"""Scoring what clients hand in: single messages and whole datasets. Nothing is stored. No Ray, no protobuf."""

from __future__ import annotations

import asyncio
import hashlib
import re
from collections.abc import AsyncGenerator, AsyncIterator, Iterator, Sequence
from dataclasses import dataclass

from services.budget import WeightedSemaphore
from services.gateway import validation
from services.gateway.drawing import RewardPort
from services.reward.orders import ItemRefusal, ItemScore, ScoreOrder
from vouch.errors import Internal, InvalidInput, NotFound, VouchError
from vouch.storage.blobs import BlobStore
from vouch.storage.catalog import Catalog
from vouch.storage.registry import Registry

IN_FLIGHT = 4  # messages of a stream at once: one is decoded while another is scored and a third is read
BYTES_AT_ONCE = 48 * 2**20  # encoded images on their way to the reward model, of all calls together
BYTES_WAITING = 256 * 2**20  # and of calls that wait for their turn; more are refused
_DIGEST = re.compile(r"[0-9a-f]{64}")


@dataclass(frozen=True, kw_only=True)
class Item:
    """One image to score: either its bytes or the digest of a stored one."""

    item_id: str
    data: bytes = b""
    digest: str = ""
    prompt: str = ""
    problem: InvalidInput | None = None  # why it can have no score, found before
    owner: str | None = None
    """Whose stored images may be named; None: everybody's."""


@dataclass(frozen=True, kw_only=True)
class Result:
    """What became of one item. `version` is the digest of the reward model."""

    item_id: str
    digest: str
    outcome: ItemScore | ItemRefusal
    version: str


class Scoring:
    """Hands items to the reward deployment."""

    def __init__(self, reward: RewardPort, catalog: Catalog, blobs: BlobStore, registry: Registry) -> None:
        self._reward, self._catalog, self._blobs, self._registry = reward, catalog, blobs, registry
        self._bytes = WeightedSemaphore(BYTES_AT_ONCE, BYTES_WAITING, "images to score")

    async def score(self, items: Sequence[Item], request_id: str, version: str) -> list[Result]:
        """All scores, in the order of the items. One bad item fails the call, by name."""
        validation.check_items(len(items))
        digest = await self.pin(request_id, version)
        results = await self._outcomes(items, request_id, digest, needs_id=False)
        for position, result in enumerate(results):
            if isinstance(result.outcome, ItemRefusal):
                raise _refusal(position, result, result.outcome)
        return results

    async def stream(
        self, messages: AsyncIterator[Sequence[Item]], request_id: str, version: str
    ) -> AsyncGenerator[list[Result], None]:
        """Results as they come, one list for each message. A bad item is a result of its own."""
        turn = asyncio.Lock()
        answers: asyncio.Queue[list[Result] | Exception | None] = asyncio.Queue(maxsize=IN_FLIGHT)
        workers = [
            asyncio.create_task(self._work(messages, turn, answers, request_id, version))
            for _ in range(IN_FLIGHT)
        ]
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
        return await self._reward.resolve(request_id, await asyncio.to_thread(self._digest, version))

    async def _work(
        self,
        messages: AsyncIterator[Sequence[Item]],
        turn: asyncio.Lock,
        answers: asyncio.Queue[list[Result] | Exception | None],
        request_id: str,
        version: str,
    ) -> None:
        try:
            while True:
                async with turn:
                    items = await anext(messages, None)
                if items is None:
                    break
                validation.check_items(len(items))
                await answers.put(await self._outcomes(items, request_id, version, needs_id=True))
            await answers.put(None)
        except Exception as error:  # noqa: BLE001 - raised again where the stream is read
            await answers.put(error)

    async def _outcomes(
        self, items: Sequence[Item], request_id: str, version: str, *, needs_id: bool
    ) -> list[Result]:
        found = await asyncio.to_thread(lambda: [self._find(item, needs_id) for item in items])
        good = tuple(pair for pair in found if not isinstance(pair, ItemRefusal))
        scored: Iterator[ItemScore | ItemRefusal] = iter(())
        if good:
            order = ScoreOrder(request_id=request_id, items=good, version=version)
            async with self._bytes.hold(sum(len(data) for data, _ in good)):
                scored = iter((await self._reward.score(order)).outcomes)
        return [
            Result(
                item_id=item.item_id,
                digest=""
                if isinstance(pair, ItemRefusal)
                else item.digest or hashlib.sha256(pair[0]).hexdigest(),
                outcome=pair if isinstance(pair, ItemRefusal) else next(scored),
                version=version,
            )
            for item, pair in zip(items, found, strict=True)
        ]

    def _find(self, item: Item, needs_id: bool) -> tuple[bytes, str] | ItemRefusal:
        """The bytes and the prompt of an item, or why there are none."""
        try:
            if item.problem is not None:
                raise item.problem
            validation.check_item_id(item.item_id, needed=needs_id)
            if not item.data and not item.digest:
                raise InvalidInput("The item has no image: send its bytes, or the digest of a stored one.")
            data, prompt = (item.data, item.prompt) if item.data else self._stored(item)
            return data, validation.check_prompt(prompt)
        except VouchError as error:
            return ItemRefusal(reason=error.reason, message=error.message)

    def _stored(self, item: Item) -> tuple[bytes, str]:
        if not _DIGEST.fullmatch(item.digest):
            raise InvalidInput(
                f"{item.digest[:80]!r} is not a digest: 64 lower-case hexadecimal digits are expected."
            )
        record = self._catalog.images.get(item.digest, owner=item.owner)
        return self._blobs.get(item.digest), item.prompt or record.prompt

    def _digest(self, ref: str) -> str:
        if not ref:
            return ""
        version = self._registry.get(ref)
        if version.kind != "reward":
            raise InvalidInput(
                f"{version.name} is a {version.kind}, not a reward model: name one of that kind."
            )
        return version.digest


def _refusal(position: int, result: Result, refusal: ItemRefusal) -> VouchError:
    name = f"Image {position}" + (f" ({result.item_id})" if result.item_id else "")
    message = f"{name}: {refusal.message}"
    if refusal.reason == Internal.reason:
        return Internal(message)
    if refusal.reason.endswith("NOT_FOUND"):
        return NotFound(message, refusal.reason)
    return InvalidInput(message, refusal.reason)
