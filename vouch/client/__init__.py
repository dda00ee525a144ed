"""The typed client. Protobuf and gRPC stop here: callers see values of `vouch.types` and `vouch.errors`.

Draw images and keep each as soon as it comes:

    with vouch.connect() as client:
        for event in client.stream_images("neutrophil", count=100):
            if isinstance(event, GeneratedImage):
                Path(f"{event.digest}.png").write_bytes(event.data)
"""

from __future__ import annotations

from vouch.client.aio import AsyncClient
from vouch.client.sync import Client
from vouch.types.generation import GeneratedImage, GenerationProgress, GenerationSummary, ImagePreview
from vouch.types.image import RealImage
from vouch.types.score import ScoreItem, ScoreResult

__all__ = [
    "AsyncClient",
    "Client",
    "GeneratedImage",
    "GenerationProgress",
    "GenerationSummary",
    "ImagePreview",
    "RealImage",
    "ScoreItem",
    "ScoreResult",
]
