"""Groups stream items into messages: one message per item would cost more than its payload."""

from __future__ import annotations

import uuid
from collections.abc import AsyncIterable, AsyncIterator, Callable, Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any, TypeVar

from google.protobuf.message import Message

from vouch import wire
from vouch.client import rpcs
from vouch.errors import InvalidInput
from vouch.pb.v1 import feedback_pb2, reward_pb2

T = TypeVar("T")
Entries = Iterable[T]
AsyncEntries = Iterable[T] | AsyncIterable[T]
"""The source of a stream of requests; asyncio accepts either kind of iterable."""

GROUP_BYTES = 4 * 2**20
"""Bytes at which a group is sent even if it could hold more items: a caller that limits the bytes in flight must not
wait for answers to unsent items."""


@dataclass(frozen=True)
class Upload:
    """An RPC whose request is a stream. holder: the field that holds the entries of one message. called: what an entry
    is called in an error."""

    rpc: str
    holder: str
    entry: type[Message]
    called: Callable[[Any], str]
    opening: Callable[[], dict[str, str]] = field(default=dict)
    """What the first message says beside its entries."""

    def message(self, entry: Any) -> Message:
        """Raises InvalidInput for an entry that no message can hold."""
        try:
            return wire.to_message(entry, self.entry)
        except InvalidInput as error:
            raise InvalidInput(f"{self.called(entry)} cannot be sent: {error}") from None

    def request(self, entries: list[Message], opening: dict[str, str]) -> Message:
        """One message of the stream."""
        return rpcs.request_class(self.rpc)(**{self.holder: entries}, **opening)


SCORES = Upload(
    "ScoreStream", "items", reward_pb2.ScoreItem, lambda item: f"The item {item.item_id!r}",
    lambda: {"request_id": uuid.uuid4().hex},
)  # fmt: skip
RATINGS = Upload(
    "ImportRatings", "ratings", feedback_pb2.Rating, lambda rating: f"The rating {rating.request_id!r}"
)
REAL_IMAGES = Upload(
    "ImportRealImages", "images", feedback_pb2.RealImage, lambda image: f"The image of {image.prompt!r:.100}"
)


class _Group:
    """Messages until they are enough."""

    def __init__(self, size: int) -> None:
        if size < 1:
            raise InvalidInput(f"A batch holds at least 1 item, not {size}.")
        self._size, self._items, self._bytes = size, list[Message](), 0

    def add(self, item: Message) -> bool:
        """True when the group should go."""
        self._items.append(item)
        self._bytes += item.ByteSize()
        return len(self._items) >= self._size or self._bytes >= GROUP_BYTES

    def take(self) -> list[Message]:
        taken, self._items, self._bytes = self._items, [], 0
        return taken


def grouped(items: Entries[T], message: Callable[[T], Message], size: int) -> Iterator[list[Message]]:
    """The items as messages, up to `size` or about 4 MiB together."""
    group = _Group(size)
    for item in items:
        if group.add(message(item)):
            yield group.take()
    if rest := group.take():
        yield rest


async def agrouped(
    items: AsyncEntries[T], message: Callable[[T], Message], size: int
) -> AsyncIterator[list[Message]]:
    """`grouped` for asyncio, of either kind of iterable."""
    if not isinstance(items, AsyncIterable):
        for ready in grouped(items, message, size):
            yield ready
        return
    group = _Group(size)
    async for item in items:
        if group.add(message(item)):
            yield group.take()
    if rest := group.take():
        yield rest


def uploaded(upload: Upload, items: Entries[Any], size: int, **opening: str) -> Iterator[Message]:
    """The messages of the stream, up to `size` entries in each. opening: more that the first one says."""
    first = {**upload.opening(), **opening}
    for group in grouped(items, upload.message, size):
        yield upload.request(group, first)
        first = {}


async def auploaded(
    upload: Upload, items: AsyncEntries[Any], size: int, **opening: str
) -> AsyncIterator[Message]:
    """`uploaded` for asyncio."""
    first = {**upload.opening(), **opening}
    async for group in agrouped(items, upload.message, size):
        yield upload.request(group, first)
        first = {}
