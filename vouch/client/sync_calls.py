"""`sync_calls.py` without asyncio. Made by `make client`; change that file instead."""

from __future__ import annotations

import threading
import time
from collections.abc import Generator, Iterator
from contextlib import closing
from types import TracebackType
from typing import Any, TypeVar

import grpc
from google.protobuf.message import Message

from vouch.client import rpcs
from vouch.client.endpoint import Endpoint
from vouch.client.failures import as_vouch_error
from vouch.client.groups import Entries, Upload, uploaded
from vouch.client.imports import ImportTotal, size_of
from vouch.client.resending import Resending
from vouch.client.retries import PATIENCE_S, Retries
from vouch.client.streams import flattened
from vouch.wire import to_value

C = TypeVar("C", bound="Calls")


class Calls:
    """A connection to a vouch system, with the call methods of a client."""

    def __init__(
        self,
        endpoint: Endpoint,
        timeout_s: float = 60.0,
        page_size: int = 500,
        patience_s: float = PATIENCE_S,
    ) -> None:
        """timeout_s: default timeout of a call. page_size: records per page of a list. patience_s: seconds for which a
        call is retried while the system replaces a dead part."""
        self.address = endpoint.address
        self._endpoint, self._metadata = endpoint, endpoint.metadata
        self._timeout_s, self._page_size, self._patience_s = timeout_s, page_size, patience_s
        self._answered = False  # whether the system has ever answered this client
        self._channel: Any = None
        self._calls: dict[str, Any] = {}
        self._opening = threading.Lock()

    def _callable(self, rpc: str) -> Any:
        with self._opening:
            if self._channel is None:
                # Created late: an asyncio channel belongs to the event loop in which it is created.
                self._channel = self._endpoint.open(grpc)
            if rpc not in self._calls:
                self._calls[rpc] = getattr(self._channel, rpcs.arity(rpc))(
                    rpcs.path(rpc),
                    request_serializer=rpcs.request_class(rpc).SerializeToString,
                    response_deserializer=rpcs.answer_class(rpc).FromString,
                )
            return self._calls[rpc]

    def close(self) -> None:
        """Cancels every active call; the client cannot be used afterwards."""
        if self._channel is not None:
            self._channel.close()

    def __enter__(self: C) -> C:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _call(self, rpc: str, request: Message, timeout_s: float | None) -> Any:
        """The answer to one message, in an RPC that takes one or a stream of them."""
        retries = self._retries(timeout_s)
        while True:
            sent = iter([request]) if rpcs.METHODS[rpc].client_streaming else request
            try:
                answer = self._callable(rpc)(sent, timeout=retries.left_s, metadata=self._metadata)
            except grpc.RpcError as error:
                wait_s = retries.wait_s(error)
                if wait_s is None:
                    raise as_vouch_error(error, self.address) from None
                time.sleep(wait_s)
            else:
                self._answered = True
                return answer

    def _retries(self, timeout_s: float | None) -> Retries:
        return Retries(timeout_s, self._patience_s, self._endpoint.is_up, known=self._answered)

    def _ask(self, rpc: str, **fields: Any) -> Any:
        return self._call(rpc, rpcs.request(rpc, **fields), self._timeout_s)

    def _value(self, rpc: str, **fields: Any) -> Any:
        return to_value(self._ask(rpc, **fields))

    def _values(self, rpc: str, name: str, **fields: Any) -> tuple[Any, ...]:
        """The values of the repeated field `name` of the answer."""
        return tuple(map(to_value, getattr(self._ask(rpc, **fields), name)))

    def _listen(
        self, rpc: str, request: Message | Resending, timeout_s: float | None = None
    ) -> Generator[Any, None, None]:
        retries = self._retries(timeout_s)
        while True:
            sent = request.requests() if isinstance(request, Resending) else request
            call = self._callable(rpc)(sent, timeout=retries.left_s, metadata=self._metadata)
            try:
                for answer in call:
                    self._answered = True
                    if isinstance(request, Resending):
                        request.answered(answer)
                    if retries.is_new(answer):
                        for value in flattened(answer):
                            yield value
                return
            except grpc.RpcError as error:
                wait_s = retries.wait_s(error)
                if wait_s is None:
                    raise as_vouch_error(error, self.address) from None
                time.sleep(wait_s)
            finally:
                call.cancel()

    def _upload(self, upload: Upload, entries: Entries[Any], size: int) -> Any:
        """The summed result of all entries. Each message is a separate call, so that it can be retried alone."""
        total = ImportTotal(upload.rpc)
        for request in uploaded(upload, entries, size):
            total.add(self._call(upload.rpc, request, None), size_of(request))
        return to_value(total.answer)

    def _upload_and_listen(
        self, upload: Upload, entries: Entries[Any], size: int, **opening: str
    ) -> Iterator[Any]:
        """The stream of answers to a stream of requests. Raises an exception of the entries."""
        sent = Resending(upload, entries, size, **opening)
        try:
            # Closed at once when the reader stops, not by the garbage collector.
            with closing(self._listen(upload.rpc, sent)) as results:
                for result in results:
                    yield result
        finally:
            sent.close()
            sent.raise_again()

    def _pages(self, rpc: str, items: str, limit: int | None, **filters: Any) -> Iterator[Any]:
        token, left = "", limit
        while left is None or left > 0:
            size = self._page_size if left is None else min(self._page_size, left)
            page = self._ask(rpc, page_size=size, page_token=token, **filters)
            messages = getattr(page, items)
            for message in messages:
                yield to_value(message)
            token, left = page.next_page_token, None if left is None else left - len(messages)
            if not token:
                return
