"""What both clients need to know of streams and pages."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from typing import Any

from google.protobuf.message import Message

from vouch.errors import InvalidInput
from vouch.wire import to_value

GENERATE_TIMEOUT_S = 300.0
DEADLINE_MARGIN_S = 5.0  # the server gives up first and says why


def deadline_of(timeout_s: float) -> float:
    """Seconds until this side gives up on a call that the server should end after `timeout_s`."""
    if not timeout_s > 0:
        raise InvalidInput(f"timeout_s must be more than 0 seconds, not {timeout_s}.")
    return timeout_s + DEADLINE_MARGIN_S


def flattened(answer: Message) -> Iterator[Any]:
    """The values that one message of a stream carries.

    An empty message carries none: the gateway sends one before the status of a stream that fails.
    """
    if answer.ByteSize() == 0:
        return
    oneofs = answer.DESCRIPTOR.oneofs_by_name
    if "event" in oneofs:
        present = answer.WhichOneof("event")
        if present is not None:
            yield to_value(getattr(answer, present))
    elif "results" in answer.DESCRIPTOR.fields_by_name:
        yield from map(to_value, answer.results)  # type: ignore[attr-defined]
    else:
        yield to_value(answer)


class Remembering:
    """An iterator that keeps what its source raised; gRPC reads it in a thread and would only cancel the call."""

    def __init__(self, source: Iterator[Any]) -> None:
        self._source = source
        self._error: BaseException | None = None

    def __iter__(self) -> Remembering:
        return self

    def __next__(self) -> Any:
        try:
            return next(self._source)
        except StopIteration:
            raise
        except BaseException as error:  # noqa: BLE001 - raised again by raise_again
            self._error = error
            raise StopIteration from None

    def raise_again(self) -> None:
        """Raises what the source raised, if it did."""
        if self._error is not None:
            raise self._error


class AsyncRemembering:
    """`Remembering` for asyncio."""

    def __init__(self, source: AsyncIterator[Any]) -> None:
        self._source = source
        self._error: BaseException | None = None

    def __aiter__(self) -> AsyncRemembering:
        return self

    async def __anext__(self) -> Any:
        try:
            return await self._source.__anext__()
        except (StopAsyncIteration, asyncio.CancelledError):
            raise
        except BaseException as error:  # noqa: BLE001 - raised again by raise_again
            self._error = error
            raise StopAsyncIteration from None

    def raise_again(self) -> None:
        """Raises what the source raised, if it did."""
        if self._error is not None:
            raise self._error
