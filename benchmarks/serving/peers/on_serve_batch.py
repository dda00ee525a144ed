"""The pipeline behind Ray Serve with `@serve.batch`: one replica, requests batched as wholes.

Serve's HTTP ingress, not its gRPC one: both go through Serve's proxy, and a plain HTTP body is the shorter way.
"""

from __future__ import annotations

import argparse
import asyncio
import logging
import os
import signal
import tempfile
import threading
from pathlib import Path

# Before Ray is imported: its default niceness would put the replica behind whoever measures it.
os.environ |= {"RAY_worker_niceness": "0", "RAY_USAGE_STATS_ENABLED": "0", "RAY_SERVE_LOG_TO_STDERR": "0"}
os.environ.pop("RAY_ADDRESS", None)

import ray
from ray import serve
from ray.serve.config import HTTPOptions
from ray.serve.schema import LoggingConfig
from starlette.requests import Request
from starlette.responses import Response

from benchmarks.serving.asks import Ask, pack
from benchmarks.serving.peers.drawing import Artist, arguments

QUIET = LoggingConfig(log_level="WARNING", enable_access_log=False)
OBJECT_STORE_BYTES = 100 * 2**20


class Drawing:
    """One replica."""

    def __init__(self, model: Path, threads: int, max_batch: int, wait_s: float) -> None:
        self._artist = Artist(model, threads)
        self._draw.set_max_batch_size(max_batch)
        self._draw.set_batch_wait_timeout_s(wait_s)

    async def __call__(self, request: Request) -> Response:
        return Response(await self._draw(Ask.decode(await request.body())))

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
        serve.start(http_options=HTTPOptions(host="127.0.0.1", port=given.port), logging_config=QUIET)
        # Serve's default of 5 requests under way would keep batches small.
        deployed = serve.deployment(Drawing, num_replicas=1, max_ongoing_requests=1000)
        application = deployed.bind(given.model, given.threads, given.max_batch, given.wait_s)
        serve.run(application, logging_config=QUIET)
        ended.wait()
        serve.shutdown()
        ray.shutdown()


if __name__ == "__main__":
    main(arguments().parse_args())
