"""Traces from a client's call to the engine's steps, by OpenTelemetry. Off unless `VOUCH_TRACES` says where spans go.

`VOUCH_TRACES=otlp` sends them to `OTEL_EXPORTER_OTLP_ENDPOINT` (needs vouch[tracing]); any other value is a file, to
which every process appends one line of JSON for a span. Spans hold names, numbers and digests, never what somebody
wrote. A span travels as a W3C `traceparent`, in gRPC metadata and in the orders between deployments.
"""

from __future__ import annotations

import functools
import json
import os
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

from vouch.errors import FailedPrecondition

VARIABLE = "VOUCH_TRACES"
KEY = "traceparent"
OTLP = "otlp"

_current: ContextVar[str] = ContextVar("vouch_traceparent", default="")


def enabled() -> bool:
    return bool(os.environ.get(VARIABLE))


def current() -> str:
    """The traceparent of the span that this task is in; "" where tracing is off."""
    return _current.get()


@contextmanager
def span(name: str, parent: str = "", **attributes: float | str) -> Iterator[str]:
    """A span for the length of the block, under `parent` or the current one. Its traceparent.

    Raises:
        FailedPrecondition: tracing is on and OpenTelemetry is not installed.
    """
    if not enabled():
        yield ""
        return
    from opentelemetry.trace import Status, StatusCode

    made = _tracer().start_span(name, _context(parent or current()), attributes=attributes)
    before, text = current(), _traceparent(made)
    _current.set(text)
    try:
        yield text
    except BaseException as error:
        made.set_status(Status(StatusCode.ERROR, type(error).__name__))
        raise
    finally:
        # Not by a token: an async generator may be closed in another context than it began in.
        _current.set(before)
        made.end()


def record(name: str, parent: str, seconds: float, **attributes: float | str) -> None:
    """A span that ends now and began `seconds` ago."""
    if enabled():
        now = time.time_ns()
        made = _tracer().start_span(
            name, _context(parent), attributes=attributes, start_time=now - int(seconds * 1e9)
        )
        made.end(now)


def _context(parent: str) -> Any:
    from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

    return TraceContextTextMapPropagator().extract({KEY: parent} if parent else {})


def _traceparent(made: Any) -> str:
    context = made.get_span_context()
    return f"00-{context.trace_id:032x}-{context.span_id:016x}-{int(context.trace_flags):02x}"


@functools.cache
def _tracer() -> Any:
    """A provider of our own: the global one belongs to the program that imports vouch, and to Ray."""
    try:
        from opentelemetry.sdk.resources import Resource
        from opentelemetry.sdk.trace import TracerProvider
        from opentelemetry.sdk.trace.export import BatchSpanProcessor, SimpleSpanProcessor

        provider = TracerProvider(resource=Resource.create({"service.name": "vouch"}))
        where = os.environ[VARIABLE]
        if where == OTLP:
            from opentelemetry.exporter.otlp.proto.grpc.trace_exporter import OTLPSpanExporter

            provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter()))
        else:
            provider.add_span_processor(SimpleSpanProcessor(_file_exporter(where)))
    except ImportError as error:
        raise FailedPrecondition(
            f"{VARIABLE} is set and OpenTelemetry is not installed ({error.name}): pip install 'vouch[tracing]'.",
            "NO_TRACING",
        ) from error
    return provider.get_tracer("vouch")


def _file_exporter(path: str) -> Any:
    from opentelemetry.sdk.trace.export import SpanExporter, SpanExportResult

    class FileExporter(SpanExporter):
        """Appends whole lines, so that several processes may share a file."""

        def export(self, spans: Sequence[Any]) -> Any:
            lines = "".join(json.dumps(_as_json(one)) + "\n" for one in spans)
            handle = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
            try:
                os.write(handle, lines.encode())
            finally:
                os.close(handle)
            return SpanExportResult.SUCCESS

    return FileExporter()


def _as_json(one: Any) -> dict[str, Any]:
    return {
        "name": one.name,
        "trace_id": f"{one.context.trace_id:032x}",
        "span_id": f"{one.context.span_id:016x}",
        "parent_id": f"{one.parent.span_id:016x}" if one.parent else "",
        "start_ns": one.start_time,
        "end_ns": one.end_time,
        "status": one.status.status_code.name,
        "attributes": dict(one.attributes or {}),
    }
