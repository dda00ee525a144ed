"""Counts and times every RPC of the gateway, by method and status code."""

from __future__ import annotations

import inspect
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import TYPE_CHECKING, Any, TypeVar

from services import metrics
from vouch import tracing
from vouch.rpcs import RPCS

if TYPE_CHECKING:
    from google.protobuf.message import Message

T = TypeVar("T", bound=type)


def observed(gateway: T) -> T:
    """Wrap every RPC of the class. The wrappers keep the parameter names, by which Serve passes the context."""
    for name in RPCS:
        method = getattr(gateway, name)
        wrap = _streaming if inspect.isasyncgenfunction(method) else _unary
        setattr(gateway, name, wrap(name, method))
    return gateway


def _unary(name: str, method: Callable[..., Any]) -> Callable[..., Awaitable[Message]]:
    async def call(self: Any, request: Any, grpc_context: Any) -> Message:
        started = time.perf_counter()
        try:
            with tracing.span(f"gateway.{name}", _parent(grpc_context)):
                return await method(self, request, grpc_context)
        finally:
            _note(name, grpc_context, started)

    call.__name__, call.__doc__ = name, method.__doc__
    return call


def _streaming(name: str, method: Callable[..., Any]) -> Callable[..., AsyncIterator[Message]]:
    async def call(self: Any, request: Any, grpc_context: Any) -> AsyncIterator[Message]:
        started = time.perf_counter()
        answers = method(self, request, grpc_context)
        try:
            with tracing.span(f"gateway.{name}", _parent(grpc_context)):
                async for answer in answers:
                    yield answer
        finally:
            await answers.aclose()
            _note(name, grpc_context, started)

    call.__name__, call.__doc__ = name, method.__doc__
    return call


def _parent(grpc_context: Any) -> str:
    """The traceparent that the caller sent, where tracing is on. A malformed one begins a trace of its own."""
    if not tracing.enabled():
        return ""
    parent = dict(grpc_context.invocation_metadata() or ()).get(tracing.KEY, "")
    return parent if isinstance(parent, str) else ""


def _note(name: str, grpc_context: Any, started: float) -> None:
    code = grpc_context.code()
    metrics.REQUESTS.labels(name, getattr(code, "name", None) or "OK").inc()
    metrics.REQUEST_SECONDS.labels(name).observe(time.perf_counter() - started)
