"""The other deployments, as the gateway sees them."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from typing import Protocol

from services.reward.messages import ScoreReply, ScoreRequest
from vouch.types.generation import GeneratedImage, GenerationProgress, GenerationRequest, ImagePreview
from vouch.types.generator import GeneratorDescription

GenerationOutput = GenerationProgress | ImagePreview | GeneratedImage
"""The events of generation."""


class GenerationPort(Protocol):
    """The generation deployment."""

    async def generate(self, request: GenerationRequest) -> list[GeneratedImage]: ...
    def stream(self, request: GenerationRequest) -> AsyncGenerator[GenerationOutput, None]: ...
    async def describe(self, request_id: str, version: str, client: str = "") -> GeneratorDescription: ...


class RewardPort(Protocol):
    """The reward deployment."""

    async def score(self, request: ScoreRequest) -> ScoreReply: ...
    async def resolve(self, request_id: str, version: str) -> str: ...
