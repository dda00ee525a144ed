"""A stream of small messages as one of larger ones: a message for each item would cost more than what it carries."""

from __future__ import annotations

from collections.abc import AsyncIterable, AsyncIterator, Callable, Iterable, Iterator
from typing import TypeVar

from google.protobuf.message import Message

from vouch.errors import InvalidInput

T = TypeVar("T")

GROUP_BYTES = 4 * 2**20
"""A group that weighs this much is sent though it could hold more: who limits the bytes that are under way must not
wait for an answer to what has not been sent."""


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


def grouped(items: Iterable[T], message: Callable[[T], Message], size: int) -> Iterator[list[Message]]:
    """The items as messages, up to `size` or about 4 MiB together."""
    group = _Group(size)
    for item in items:
        if group.add(message(item)):
            yield group.take()
    if rest := group.take():
        yield rest


async def agrouped(
    items: Iterable[T] | AsyncIterable[T], message: Callable[[T], Message], size: int
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
