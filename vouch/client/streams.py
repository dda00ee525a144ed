"""Stream and page helpers of both clients."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from google.protobuf.message import Message

from vouch.errors import InvalidInput
from vouch.wire import to_value

GENERATE_TIMEOUT_S = 300.0
DEADLINE_MARGIN_S = 5.0  # the server times out first, with a reason


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
