"""The requests of a score stream, which are sent again after the stream breaks.

Every item is kept until it has its answer. A new try sends the items without an answer, then what was never sent, and
asks for the reward version that has answered so far.

gRPC reads the requests of a try in a thread or task of its own, which may still wait for the source of the items when
the try has failed. So all tries share one reader, and what it reads is of the try that is current.
"""

from __future__ import annotations

import asyncio
import threading
from collections import deque
from collections.abc import AsyncIterator, Iterator
from typing import Any

from google.protobuf.message import Message

from vouch.client.groups import AsyncEntries, Entries, Upload, agrouped, grouped

RESULT_ID = 512
"""Characters of an item's id that its result carries, see ScoreItem in the contract."""


class _Unanswered:
    """Items that were read and not answered yet."""

    def __init__(self, opening: dict[str, str], batch: int) -> None:
        self._opening, self._batch = opening, batch
        self._items: dict[str, list[Message]] = {}  # by id; duplicate ids lose nothing
        self.tries = 0
        self.ended = False
        self.error: BaseException | None = None
        self.waiting: deque[list[Message]] = deque()
        """Groups that were read and not sent yet."""

    def begin(self) -> tuple[list[list[Message]], dict[str, str]]:
        """Begin a try: the groups that it sends first, and what its first request carries beside items."""
        self.tries += 1
        self.waiting.clear()  # they are among the items
        items = [item for same in self._items.values() for item in same]
        return list(grouped(items, _itself, self._batch)), dict(self._opening)

    def read(self, group: list[Message] | None) -> None:
        """Store a group of the source; None is the end."""
        if group is None:
            self.ended = True
            return
        for item in group:
            self._items.setdefault(_id(item), []).append(item)
        self.waiting.append(group)

    def answered(self, answer: Message) -> None:
        """Forget the items that this ScoreStreamResponse answers."""
        for result in answer.results:  # type: ignore[attr-defined]
            same = self._items.get(result.item_id, [])
            if len(same) > 1:
                same.pop(0)
            else:
                self._items.pop(result.item_id, None)
            if result.HasField("score"):
                self._opening["version"] = result.score.reward_version


class Resending:
    """The requests of one score stream, for as many tries as it takes.

    `items` is read in the thread of gRPC; what it raises ends the requests, and `raise_again` raises it.
    """

    def __init__(self, upload: Upload, items: Entries[Any], batch: int, **opening: str) -> None:
        """batch: most items in one request. opening: more that the first request of a try says."""
        self._upload = upload
        self._groups = grouped(items, upload.message, batch)
        self._kept = _Unanswered({**upload.opening(), **opening}, batch)
        self._changed = threading.Condition()
        self._reading = False

    def requests(self) -> Iterator[Message]:
        """The requests of the next try. The tries before it send nothing more."""
        with self._changed:
            groups, opening = self._kept.begin()
            number = self._kept.tries
            self._changed.notify_all()
        return self._requests(number, groups, opening)

    def answered(self, answer: Message) -> None:
        """Forget the items that this answer is about."""
        with self._changed:
            self._kept.answered(answer)

    def close(self) -> None:
        """End the current try."""
        self.requests()

    def raise_again(self) -> None:
        """Raises what reading the items raised, if it did."""
        if self._kept.error is not None:
            raise self._kept.error

    def _requests(
        self, number: int, groups: list[list[Message]], opening: dict[str, str]
    ) -> Iterator[Message]:
        for group in groups:
            yield self._request(group, opening)
        while (fresh := self._next(number)) is not None:
            yield self._request(fresh, opening)

    def _request(self, group: list[Message], opening: dict[str, str]) -> Message:
        """A request of the stream; the first one takes the opening."""
        request = self._upload.request(group, opening)
        opening.clear()
        return request

    def _next(self, number: int) -> list[Message] | None:
        """The next group that was never sent; None when there is none, or when another try has begun."""
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._kept.tries != number or not self._must_wait())
                if self._kept.tries != number:
                    return None
                if self._kept.waiting:
                    return self._kept.waiting.popleft()
                if self._kept.ended:
                    return None
                self._reading = True
            self._read()

    def _must_wait(self) -> bool:
        return self._reading and not self._kept.waiting

    def _read(self) -> None:
        group: list[Message] | None = None
        error: BaseException | None = None
        try:
            group = next(self._groups, None)
        except BaseException as raised:  # noqa: BLE001 - raised again by raise_again
            error = raised
        with self._changed:
            self._reading = False
            self._kept.error = error
            self._kept.read(group)
            self._changed.notify_all()


class AsyncResending:
    """`Resending` for asyncio, of either kind of iterable."""

    def __init__(self, upload: Upload, items: AsyncEntries[Any], batch: int, **opening: str) -> None:
        self._upload = upload
        self._groups = agrouped(items, upload.message, batch)
        self._kept = _Unanswered({**upload.opening(), **opening}, batch)
        self._reading: asyncio.Task[None] | None = None

    def requests(self) -> AsyncIterator[Message]:
        """The requests of the next try. The tries before it send nothing more."""
        groups, opening = self._kept.begin()
        return self._requests(self._kept.tries, groups, opening)

    def answered(self, answer: Message) -> None:
        """Forget the items that this answer is about."""
        self._kept.answered(answer)

    async def close(self) -> None:
        """End the current try, and the reading of the items."""
        self._kept.begin()
        if self._reading is not None:
            self._reading.cancel()
            await asyncio.wait({self._reading})

    def raise_again(self) -> None:
        """Raises what reading the items raised, if it did."""
        if self._kept.error is not None:
            raise self._kept.error

    async def _requests(
        self, number: int, groups: list[list[Message]], opening: dict[str, str]
    ) -> AsyncIterator[Message]:
        for group in groups:
            yield self._request(group, opening)
        while (fresh := await self._next(number)) is not None:
            yield self._request(fresh, opening)

    def _request(self, group: list[Message], opening: dict[str, str]) -> Message:
        """A request of the stream; the first one takes the opening."""
        request = self._upload.request(group, opening)
        opening.clear()
        return request

    async def _next(self, number: int) -> list[Message] | None:
        while self._kept.tries == number:
            if self._kept.waiting:
                return self._kept.waiting.popleft()
            if self._kept.ended:
                break
            if self._reading is None:
                # A task of its own: gRPC cancels the one of a try that fails, and a cancelled source has ended.
                self._reading = asyncio.ensure_future(self._read())
            await asyncio.wait({self._reading})
        return None

    async def _read(self) -> None:
        group: list[Message] | None = None
        try:
            group = await anext(self._groups, None)
        except asyncio.CancelledError:
            raise
        except BaseException as error:  # noqa: BLE001 - raised again by raise_again
            self._kept.error = error
        finally:
            self._reading = None
            self._kept.read(group)


def _id(item: Message) -> str:
    return str(item.item_id)[:RESULT_ID]  # type: ignore[attr-defined]


def _itself(item: Message) -> Message:
    return item
