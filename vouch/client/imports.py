"""An import as a sequence of calls with one message each.

A call that is lost is made again alone. Ratings are known by their request ids and images by their content, so nothing
is stored twice.
"""

from __future__ import annotations

from google.protobuf.message import Message

from vouch.client import rpcs

FAILURES = 100
"""Refusals that the answer of an import names, see ImportRatingsResponse in the contract."""


class ImportTotal:
    """The sum of the answers to the calls of one import."""

    def __init__(self, rpc: str) -> None:
        self.answer = rpcs.answer_class(rpc)()
        self._items = 0

    def add(self, part: Message, items: int) -> None:
        """Add the answer to a call with so many items, which followed those of the calls before."""
        for one in part.DESCRIPTOR.fields:
            if one.message_type is None:
                setattr(self.answer, one.name, getattr(self.answer, one.name) + getattr(part, one.name))
        room = FAILURES - len(self.answer.failures)  # type: ignore[attr-defined]
        for failure in part.failures[:room]:  # type: ignore[attr-defined]
            failure.index += self._items
            self.answer.failures.append(failure)  # type: ignore[attr-defined]
        self._items += items


def size_of(request: Message) -> int:
    """The number of items in a message of an import."""
    return sum(len(getattr(request, one.name)) for one in request.DESCRIPTOR.fields)
