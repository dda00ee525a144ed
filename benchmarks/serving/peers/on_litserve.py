"""The pipeline behind LitServe with its own dynamic batching.

Annotations are not postponed here: LitServe makes its HTTP endpoint of them, and reads them as they are.
"""

from collections.abc import Sequence
from typing import Any

import litserve
from fastapi import Response

from benchmarks.serving.asks import Ask, pack
from benchmarks.serving.peers.drawing import Artist, arguments


class LitGenerator(litserve.LitAPI):
    """One worker. Options come with the class's instance, the model in the worker's own process."""

    def __init__(self, model: Any, threads: int, max_batch: int, wait_s: float) -> None:
        super().__init__(max_batch_size=max_batch, batch_timeout=wait_s)
        self._model, self._threads = model, threads

    def setup(self, device: str) -> None:
        self._artist = Artist(self._model, self._threads)

    def decode_request(self, request: dict[str, Any]) -> Ask:
        return Ask(**request)

    def batch(self, inputs: Sequence[Ask]) -> Sequence[Ask]:
        return inputs

    def predict(self, inputs: "Sequence[Ask] | Ask") -> list[bytes]:
        asks = [inputs] if isinstance(inputs, Ask) else inputs
        return [pack(images) for images in self._artist.draw(asks)]

    def unbatch(self, output: list[bytes]) -> list[bytes]:
        return output

    def encode_response(self, output: bytes) -> Response:
        return Response(output, media_type="application/octet-stream")


if __name__ == "__main__":
    given = arguments().parse_args()
    api = LitGenerator(given.model, given.threads, given.max_batch, given.wait_s)
    server = litserve.LitServer(api, accelerator="cpu", devices=1, workers_per_device=1, timeout=False)
    server.run(
        host="127.0.0.1", port=given.port, num_api_servers=1, generate_client_file=False, log_level="warning"
    )
