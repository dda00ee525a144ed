"""Interceptors that start a span for every call of a client and send its traceparent."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import grpc
import grpc.aio

from vouch import tracing


def traced(channel: Any) -> Any:
    """A `grpc` channel with a span around every call if tracing is on."""
    return grpc.intercept_channel(channel, _Sync()) if tracing.enabled() else channel


def interceptors() -> list[Any]:
    """The interceptors of a `grpc.aio` channel."""
    return [_UnaryUnary(), _UnaryStream(), _StreamUnary(), _StreamStream()] if tracing.enabled() else []


def _with_parent(details: Any, parent: str) -> Any:
    metadata = [*(details.metadata or ()), (tracing.KEY, parent)]
    if isinstance(details, grpc.aio.ClientCallDetails):
        return details._replace(metadata=grpc.aio.Metadata(*metadata))
    return _Details(details, metadata)


class _Details(grpc.ClientCallDetails):  # type: ignore[misc]
    def __init__(self, details: Any, metadata: list[tuple[str, str]]) -> None:
        for name in ("method", "timeout", "credentials", "wait_for_ready", "compression"):
            setattr(self, name, getattr(details, name, None))
        self.metadata = metadata


def _name(details: Any) -> str:
    method = details.method.decode() if isinstance(details.method, bytes) else details.method
    return f"client.{method.rpartition('/')[2]}"


class _Sync(
    grpc.UnaryUnaryClientInterceptor,  # type: ignore[misc]
    grpc.UnaryStreamClientInterceptor,  # type: ignore[misc]
    grpc.StreamUnaryClientInterceptor,  # type: ignore[misc]
    grpc.StreamStreamClientInterceptor,  # type: ignore[misc]
):
    """A span ends with the answer; that of a stream with the call that opens it."""

    def _call(self, go_on: Callable[..., Any], details: Any, request: Any) -> Any:
        with tracing.span(_name(details)) as parent:
            return go_on(_with_parent(details, parent), request)

    def intercept_unary_unary(self, continuation: Any, details: Any, request: Any) -> Any:
        with tracing.span(_name(details)) as parent:
            call = continuation(_with_parent(details, parent), request)
            call.exception()  # waits
            return call

    intercept_unary_stream = intercept_stream_unary = intercept_stream_stream = _call


async def _open(go_on: Callable[..., Any], details: Any, request: Any) -> Any:
    with tracing.span(_name(details)) as parent:
        return await go_on(_with_parent(details, parent), request)


class _UnaryUnary(grpc.aio.UnaryUnaryClientInterceptor):  # type: ignore[misc]
    async def intercept_unary_unary(self, continuation: Any, details: Any, request: Any) -> Any:
        with tracing.span(_name(details)) as parent:
            call = await continuation(_with_parent(details, parent), request)
            await call.wait_for_connection()
            await call.code()
            return call


class _UnaryStream(grpc.aio.UnaryStreamClientInterceptor):  # type: ignore[misc]
    async def intercept_unary_stream(self, continuation: Any, details: Any, request: Any) -> Any:
        return await _open(continuation, details, request)


class _StreamUnary(grpc.aio.StreamUnaryClientInterceptor):  # type: ignore[misc]
    async def intercept_stream_unary(self, continuation: Any, details: Any, request: Any) -> Any:
        return await _open(continuation, details, request)


class _StreamStream(grpc.aio.StreamStreamClientInterceptor):  # type: ignore[misc]
    async def intercept_stream_stream(self, continuation: Any, details: Any, request: Any) -> Any:
        return await _open(continuation, details, request)
