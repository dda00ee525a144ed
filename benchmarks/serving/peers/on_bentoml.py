"""The pipeline behind BentoML with its own adaptive batching.

BentoML chooses how long a batch waits by itself; what it is told is the longest latency that it may plan for. Requests
that would take longer are refused. So `--wait-s` is that latency here.
"""

from __future__ import annotations

import base64
import json
import os
import sys
from typing import Any

import bentoml

from benchmarks.serving.asks import Ask, pack
from benchmarks.serving.peers.drawing import Artist, arguments

OPTIONS = "PEER_OPTIONS"  # the service is imported by another process, which takes no arguments of ours
options: dict[str, Any] = json.loads(os.environ.get(OPTIONS, '{"max_batch": 16, "wait_s": 60}'))


@bentoml.service(workers=1, traffic={"timeout": 600})
class BentoGenerator:
    """One worker."""

    def __init__(self) -> None:
        self._artist = Artist(options["model"], options["threads"])

    @bentoml.api(
        batchable=True, max_batch_size=options["max_batch"], max_latency_ms=int(options["wait_s"] * 1000)
    )
    def draw(self, asks: list[dict[str, Any]]) -> list[str]:
        drawn = self._artist.draw([Ask(**ask) for ask in asks])
        return [base64.b64encode(pack(images)).decode() for images in drawn]


if __name__ == "__main__":
    given = arguments().parse_args()
    os.environ[OPTIONS] = json.dumps({**vars(given), "model": str(given.model)})
    os.environ["BENTOML_DO_NOT_TRACK"] = "True"
    service = "benchmarks.serving.peers.on_bentoml:BentoGenerator"
    command = [
        sys.executable,
        "-m",
        "bentoml",
        "serve",
        service,
        "--host",
        "127.0.0.1",
        "--port",
        str(given.port),
    ]
    os.execv(sys.executable, command)
