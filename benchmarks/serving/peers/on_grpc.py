"""The pipeline behind grpc.aio, one request at a time: what one writes first."""

from __future__ import annotations

import asyncio

import grpc

from benchmarks.serving.asks import METHOD, SERVICE, Ask, pack
from benchmarks.serving.peers.drawing import Artist, arguments


async def serve(artist: Artist, port: int) -> None:
    async def draw(request: bytes, context: grpc.aio.ServicerContext) -> bytes:
        # The artist has one thread, so requests wait for each other in the order in which they came.
        (images,) = await asyncio.wrap_future(artist.submit([Ask.decode(request)]))
        return pack(images)

    handler = grpc.method_handlers_generic_handler(
        SERVICE, {METHOD: grpc.unary_unary_rpc_method_handler(draw)}
    )
    server = grpc.aio.server(handlers=[handler])
    server.add_insecure_port(f"127.0.0.1:{port}")
    await server.start()
    await server.wait_for_termination()


if __name__ == "__main__":
    given = arguments().parse_args()
    asyncio.run(serve(Artist(given.model, given.threads), given.port))
