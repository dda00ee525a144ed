"""When a failed call is made again: a part of the system has ended and is being replaced.

Every RPC may be repeated: reads by nature, the others by their `request_id`. A fault that repeating cannot mend (a
wrong request, a missing version) is never repeated.
"""

from __future__ import annotations

import time
from collections.abc import Callable

import grpc
from google.protobuf.message import Message

from vouch.client.failures import reason_of
from vouch.pb.v1 import generation_pb2

PATIENCE_S = 60.0
FIRST_WAIT_S, LONGEST_WAIT_S = 0.1, 1.0

# What gRPC makes of a connection that is cut, and of the HTTP 500 of a proxy that has no gateway to ask.
_CUT = ("http2 header with status: 5", "RST_STREAM", "Stream removed", "Connection reset", "Socket closed")


class Repeats:
    """The repeats of one call.

    timeout_s: of the whole call with its repeats; None is no limit. patience_s: the longest time from the first
    failure to the last repeat. is_up: False where the system is known to be down, None where nobody knows.
    """

    def __init__(
        self, timeout_s: float | None, patience_s: float, is_up: Callable[[], bool | None], *, known: bool
    ) -> None:
        self._deadline = None if timeout_s is None else time.monotonic() + timeout_s
        self._patience_s, self._is_up, self._known = patience_s, is_up, known
        self._give_up_at: float | None = None
        self._wait_s = FIRST_WAIT_S

    @property
    def left_s(self) -> float | None:
        """Seconds that the next try may take; None is no limit."""
        return None if self._deadline is None else max(0.001, self._deadline - time.monotonic())

    def wait_s(self, error: grpc.RpcError) -> float | None:
        """Seconds to wait before the next try; None when there is none."""
        if not is_transient(error) or not self._may_come_back():
            return None
        now = time.monotonic()
        self._give_up_at = self._give_up_at or now + self._patience_s
        wait_s, self._wait_s = self._wait_s, min(2 * self._wait_s, LONGEST_WAIT_S)
        ends = [self._give_up_at, *([] if self._deadline is None else [self._deadline])]
        return wait_s if now + wait_s < min(ends) else None

    def progressed(self) -> None:
        """An answer has come: the next failure is another one."""
        self._known, self._give_up_at, self._wait_s = True, None, FIRST_WAIT_S

    def _may_come_back(self) -> bool:
        up = self._is_up()
        return self._known if up is None else up


def is_transient(error: grpc.RpcError) -> bool:
    """Whether the same call may succeed in a moment."""
    code = error.code()
    if code is grpc.StatusCode.UNAVAILABLE:
        return True
    lost = (grpc.StatusCode.UNKNOWN, grpc.StatusCode.INTERNAL, grpc.StatusCode.CANCELLED)
    details = error.details() or ""
    return code in lost and reason_of(error) is None and any(words in details for words in _CUT)


class Seen:
    """The images of a stream that the caller has: a repeated stream begins with them once more."""

    def __init__(self) -> None:
        self._indices: set[int] = set()

    def is_new(self, answer: Message) -> bool:
        """False for an image that has come before. Remembers it."""
        if (
            not isinstance(answer, generation_pb2.StreamImagesResponse)
            or answer.WhichOneof("event") != "image"
        ):
            return True
        new = answer.image.index not in self._indices
        self._indices.add(answer.image.index)
        return new
