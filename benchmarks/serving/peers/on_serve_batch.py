"""The pipeline behind Ray Serve with `@serve.batch`: one replica, requests batched as wholes.

It answers over Serve's gRPC ingress: a deployment that does nothing answers there in two thirds of the time that it
takes over HTTP.
"""

from __future__ import annotations

import argparse
import asyncio
import logging
import os
import signal
import socket
import tempfile
import threading
from pathlib import Path

# Before Ray is imported: its default niceness would put the replica behind whoever measures it.
os.environ |= {"RAY_worker_niceness": "0", "RAY_USAGE_STATS_ENABLED": "0", "RAY_SERVE_LOG_TO_STDERR": "0"}
os.environ.pop("RAY_ADDRESS", None)

import ray
from google.protobuf.wrappers_pb2 import BytesValue
from ray import serve
from ray.serve.config import HTTPOptions, gRPCOptions
from ray.serve.schema import LoggingConfig

from benchmarks.serving.asks import Ask, pack
from benchmarks.serving.peers.drawing import Artist, arguments
from benchmarks.serving.peers.grpc_ingress import ADD

QUIET = LoggingConfig(log_level="WARNING", enable_access_log=False)
OBJECT_STORE_BYTES = 100 * 2**20


class BatchedGenerator:
    """One replica."""

    def __init__(self, model: Path, threads: int, max_batch: int, wait_s: float) -> None:
        self._artist = Artist(model, threads)
        self._draw.set_max_batch_size(max_batch)
        self._draw.set_batch_wait_timeout_s(wait_s)

    async def Draw(self, request: BytesValue) -> BytesValue:  # noqa: N802 - Serve dispatches an RPC by its name
        return BytesValue(value=await self._draw(Ask.decode(request.value)))

    @serve.batch
    async def _draw(self, asks: list[Ask]) -> list[bytes]:
        return [pack(images) for images in await asyncio.wrap_future(self._artist.submit(asks))]


def main(given: argparse.Namespace) -> None:
    ended = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: ended.set())
    with tempfile.TemporaryDirectory(prefix="peer-") as folder:
        ray.init(
            address="local", num_cpus=4, include_dashboard=False, object_store_memory=OBJECT_STORE_BYTES,
            log_to_driver=False, logging_level=logging.ERROR, _temp_dir=folder, _node_ip_address="127.0.0.1",
        )  # fmt: skip
        serve.start(
            http_options=HTTPOptions(host="127.0.0.1", port=_free_port()),  # there is no gRPC without it
            grpc_options=gRPCOptions(port=given.port, grpc_servicer_functions=[ADD]),
            logging_config=QUIET,
        )
        # Serve's default of 5 requests under way would keep batches small.
        deployed = serve.deployment(BatchedGenerator, num_replicas=1, max_ongoing_requests=1000)
        application = deployed.bind(given.model, given.threads, given.max_batch, given.wait_s)
        serve.run(application, logging_config=QUIET)
        ended.wait()
        serve.shutdown()
        ray.shutdown()


def _free_port() -> int:
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return int(one.getsockname()[1])


if __name__ == "__main__":
    main(arguments().parse_args())
