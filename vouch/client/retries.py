"""Retries of failed calls while a dead part of the system is replaced.

Every RPC may be repeated: reads by nature, the others by their `request_id`, a score stream by its items without an
answer (see `resending`), an import one message at a time (see `imports`). A fault that repeating cannot mend (a
wrong request, a missing version) is never repeated.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable

import grpc
from google.protobuf.message import Message

from vouch.client.failures import reason_of, retry_delay_s
from vouch.pb.v1 import generation_pb2, reward_pb2

PATIENCE_S = 60.0
FIRST_WAIT_S, LONGEST_WAIT_S = 0.1, 1.0

# gRPC's details of a cut connection, and of HTTP 500 from a proxy without a gateway.
_CUT = ("http2 header with status: 5", "RST_STREAM", "Stream removed", "Connection reset", "Socket closed")
_CUT_WHILE_SENDING = "Internal error from Core"
"""What grpc.aio makes of any end of a call while a request is being written; the status of the system is lost then."""
_NO_GATEWAY_YET = "/ray.serve.RayServeAPIService/"
"""Part of the NOT_FOUND details of a Ray Serve proxy that does not know the application yet."""


class Retries:
    """The retries of one call.

    timeout_s: of the whole call with its repeats; None is no limit. patience_s: the longest time from the first
    failure to the last repeat. is_up: False where the system is known to be down, None where nobody knows.
    """

    def __init__(
        self, timeout_s: float | None, patience_s: float, is_up: Callable[[], bool | None], *, known: bool
    ) -> None:
        self._deadline = None if timeout_s is None else time.monotonic() + timeout_s
        self._patience_s, self._is_up, self._known = patience_s, is_up, known
        self._give_up_at: float | None = None
        self._last_failure = -math.inf
        self._wait_s = FIRST_WAIT_S
        self._images: set[int] = set()

    @property
    def left_s(self) -> float | None:
        """Timeout of the next attempt in seconds; None: no limit."""
        return None if self._deadline is None else max(0.001, self._deadline - time.monotonic())

    def wait_s(self, error: grpc.RpcError) -> float | None:
        """Seconds to wait before the next attempt, at least the delay that the system asks for; None: no attempt."""
        if not is_transient(error) or not self._may_come_back(error):
            return None
        now = time.monotonic()
        if (
            now - self._last_failure > self._patience_s
        ):  # after long success of a stream this is a new failure
            self._begin_anew()
        self._last_failure = now
        self._give_up_at = self._give_up_at or now + self._patience_s
        wait_s = max(self._wait_s, retry_delay_s(error) or 0.0)
        self._wait_s = min(2 * self._wait_s, LONGEST_WAIT_S)
        ends = [self._give_up_at, *([] if self._deadline is None else [self._deadline])]
        return wait_s if now + wait_s < min(ends) else None

    def is_new(self, answer: Message) -> bool:
        """Whether a stream's answer is for the caller: a repeated stream begins with the images that have come before.

        A new image or score ends a loss; other answers do not, for every try may begin with them.
        """
        self._known = True
        if isinstance(answer, reward_pb2.ScoreStreamResponse) and answer.results:
            self._begin_anew()  # answered items are not sent again
            return True
        if (
            not isinstance(answer, generation_pb2.StreamImagesResponse)
            or answer.WhichOneof("event") != "image"
        ):
            return True
        if answer.image.index in self._images:
            return False
        self._images.add(answer.image.index)
        self._begin_anew()
        return True

    def _begin_anew(self) -> None:
        self._give_up_at, self._wait_s = None, FIRST_WAIT_S

    def _may_come_back(self, error: grpc.RpcError) -> bool:
        """Whether there is a system at all: its process runs, it has answered before, or this is its answer."""
        up = self._is_up()
        return self._known or reason_of(error) is not None if up is None else up


def is_transient(error: grpc.RpcError) -> bool:
    """Whether a retry may succeed."""
    code = error.code()
    if code is grpc.StatusCode.UNAVAILABLE:
        return True
    if reason_of(error) is not None:
        return False
    lost = (grpc.StatusCode.UNKNOWN, grpc.StatusCode.INTERNAL, grpc.StatusCode.CANCELLED)
    details = error.details() or ""
    if code is grpc.StatusCode.NOT_FOUND:
        return _NO_GATEWAY_YET in details
    return code in lost and any(words in details for words in (*_CUT, _CUT_WHILE_SENDING))
