"""A trace from a client's call over real gRPC to the steps of a real engine."""

from __future__ import annotations

import asyncio
import inspect
import json
import subprocess
import sys
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

import vouch
from services.gateway.observed import observed
from services.generation.engine import Engine
from services.generation.engine_trace import EngineTrace
from tests.edged_server import EdgedServer
from tests.fakes import FakeGenerator
from vouch import tracing
from vouch.errors import NotFound
from vouch.rpcs import RPCS
from vouch.testing import TOKENS
from vouch.types.generation import GenerationRequest


@pytest.fixture
def spans(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    pytest.importorskip("opentelemetry.sdk", reason="OpenTelemetry is not installed: install vouch[tracing]")
    file = tmp_path / "spans.jsonl"
    monkeypatch.setenv(tracing.VARIABLE, str(file))
    tracing._tracer.cache_clear()
    yield file
    tracing._tracer.cache_clear()


def _method(rpc: str) -> Callable[..., Any]:
    """The handler of a server as a method of the gateway's form."""

    async def stream(self: Door, request: Any, grpc_context: Any) -> AsyncIterator[Any]:
        async for answer in self.handler(rpc)(request, grpc_context):
            yield answer

    async def call(self: Door, request: Any, grpc_context: Any) -> Any:
        return await self.handler(rpc)(request, grpc_context)

    return stream if inspect.isasyncgenfunction(getattr(EdgedServer, rpc)) else call


class Door:
    """What the gateway is to its callers."""

    def __init__(self, handler: Callable[[str], Callable[..., Any]]) -> None:
        self.handler = handler


for _rpc in RPCS:
    setattr(Door, _rpc, _method(_rpc))
observed(Door)


class Watched(EdgedServer):
    """The small system, with the wrapper that the gateway has around every RPC."""

    def _handler(self, rpc: str) -> Callable[..., Any]:
        return getattr(Door(super()._handler), rpc)


@pytest.fixture
def system(tmp_path: Path) -> Iterator[EdgedServer]:
    with Watched(tmp_path / "state") as running:
        yield running


def read(file: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in file.read_text().splitlines()] if file.is_file() else []


def named(file: Path, name: str) -> dict[str, Any]:
    return next(span for span in read(file) if span["name"] == name)


def test_the_gateway_goes_on_with_the_trace_that_the_client_began(spans, system):
    with vouch.connect(state=system.state) as client:
        client.generate_images("neutrophil", count=1, seed=7)
    called, answered = named(spans, "client.GenerateImages"), named(spans, "gateway.GenerateImages")
    assert called["parent_id"] == ""
    assert (answered["trace_id"], answered["parent_id"]) == (called["trace_id"], called["span_id"])
    assert called["start_ns"] <= answered["start_ns"] <= answered["end_ns"] <= called["end_ns"]


def test_calls_of_one_span_belong_to_one_trace(spans, system):
    with vouch.connect(state=system.state) as client, tracing.span("evaluation"):
        client.generate_images("neutrophil", count=1, seed=7)
        list(client.stream_images("neutrophil", count=1))
    assert len({span["trace_id"] for span in read(spans)}) == 1
    assert {"client.GenerateImages", "client.StreamImages"} <= {span["name"] for span in read(spans)}


def test_an_asynchronous_client_begins_traces_too(spans, system):
    async def call() -> None:
        async with vouch.connect_async(state=system.state) as client:
            await client.generate_images("neutrophil", count=1, seed=7)

    asyncio.run(call())
    called, answered = named(spans, "client.GenerateImages"), named(spans, "gateway.GenerateImages")
    assert answered["parent_id"] == called["span_id"]


def test_an_error_marks_the_span_and_nothing_of_its_text_is_kept(spans):
    with pytest.raises(NotFound), tracing.span("lookup"):
        raise NotFound("There is no patient Miller.")
    assert named(spans, "lookup")["status"] == "ERROR"
    assert "Miller" not in spans.read_text()


def test_prompts_and_tokens_are_no_part_of_a_span(spans, system):
    with vouch.connect(state=system.state) as client:
        client.generate_images("neutrophil", count=1, seed=7)
    text = spans.read_text()
    assert "neutrophil" not in text
    assert not any(token in text for token in TOKENS.values())


def test_an_order_carries_the_trace_to_the_steps_of_the_engine(spans):
    engine = Engine(max_batch=4, max_waiting=8)

    async def draw(request: GenerationRequest) -> None:
        trace = EngineTrace(request.trace, len(request.seeds))
        async for event in engine.stream(FakeGenerator(), request):
            trace.note(event)

    try:
        with tracing.span("gateway.GenerateImages") as parent:
            request = GenerationRequest(
                request_id="a", prompt="neutrophil", seeds=(1, 2), steps=3, guidance=1.0, progress=True
            )
            assert request.trace == parent
            asyncio.run(draw(request))
    finally:
        engine.stop()
    gateway = named(spans, "gateway.GenerateImages")
    steps = [span for span in read(spans) if span["name"] == "engine.step"]
    images = [span for span in read(spans) if span["name"] == "engine.image"]
    assert [span["attributes"]["step"] for span in steps] == [1, 2]  # the last step ends in "engine.finish"
    assert named(spans, "engine.finish")["parent_id"] == gateway["span_id"]
    assert sorted(span["attributes"]["index"] for span in images) == [0, 1]
    assert {span["parent_id"] for span in (*steps, *images)} == {gateway["span_id"]}


def test_without_the_setting_nothing_is_traced_or_imported(system):
    code = "import sys, vouch; from vouch import tracing; assert not tracing.enabled()\n"
    code += "with tracing.span('x') as parent: assert parent == '' == tracing.current()\n"
    code += (
        f"with vouch.connect(state={str(system.state)!r}) as client: client.generate_images('neutrophil')\n"
    )
    code += "assert not [name for name in sys.modules if name.startswith('opentelemetry')]"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
