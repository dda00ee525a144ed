"""The clients, one for each way that a contender answers. Each yields the `Send` of an event loop."""

from __future__ import annotations

import base64
import json
import uuid
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp
import grpc
from google.protobuf.wrappers_pb2 import BytesValue

import vouch
from benchmarks.serving.asks import METHOD, SERVICE, Ask, unpack
from benchmarks.serving.replay import Send

PATIENCE_S = 600.0  # of a client; the replay abandons sooner


@asynccontextmanager
async def over_grpc(port: int) -> AsyncIterator[Send]:
    """Bytes in, bytes out, by a generic handler."""
    async with grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel:
        call = channel.unary_unary(f"/{SERVICE}/{METHOD}")

        async def send(ask: Ask) -> Sequence[bytes]:
            return unpack(await call(ask.encode(), timeout=PATIENCE_S))

        yield send


@asynccontextmanager
async def over_serve(port: int) -> AsyncIterator[Send]:
    """The same through Serve's ingress, which wants messages."""
    async with grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel:
        call = channel.unary_unary(
            f"/{SERVICE}/{METHOD}", BytesValue.SerializeToString, BytesValue.FromString
        )

        async def send(ask: Ask) -> Sequence[bytes]:
            reply = await call(BytesValue(value=ask.encode()), timeout=PATIENCE_S)
            return unpack(reply.value)

        yield send


def over_http(path: str, body: Callable[[Ask], Any], images: Callable[[bytes], Sequence[bytes]]) -> Any:
    """A POST of JSON. `body` makes it of a request, `images` reads the reply."""

    @asynccontextmanager
    async def connect(port: int) -> AsyncIterator[Send]:
        timeout, connector = aiohttp.ClientTimeout(total=PATIENCE_S), aiohttp.TCPConnector(limit=0)
        async with aiohttp.ClientSession(timeout=timeout, connector=connector) as session:

            async def send(ask: Ask) -> Sequence[bytes]:
                async with session.post(f"http://127.0.0.1:{port}{path}", json=body(ask)) as reply:
                    reply.raise_for_status()
                    return images(await reply.read())

            yield send

    return connect


litserve_http = over_http("/predict", Ask.as_json, unpack)


def _from_bentoml(data: bytes) -> Sequence[bytes]:
    (packed,) = json.loads(data)
    return unpack(base64.b64decode(packed))


bentoml_http = over_http("/draw", lambda ask: {"asks": [ask.as_json()]}, _from_bentoml)


@asynccontextmanager
async def over_vouch(state: Path) -> AsyncIterator[Send]:
    """vouch's own client. Every request has an id of its own: a repeated one would be answered from the store."""
    async with vouch.connect_async(state=state, role="client") as client:

        async def send(ask: Ask) -> Sequence[bytes]:
            reply = await client.generate_images(
                ask.prompt, count=ask.count, seed=ask.seed, steps=ask.steps, guidance=ask.guidance,
                score=False, timeout_s=PATIENCE_S, request_id=uuid.uuid4().hex,
            )  # fmt: skip
            return [image.data for image in reply.images]

        yield send
