"""Timing and versions of one call for images so far."""

from __future__ import annotations

import time
from collections.abc import Iterable
from dataclasses import dataclass, field

from vouch.types.generation import GeneratedImage, GenerationSummary


@dataclass
class Usage:
    """Grows while the call goes on. Seconds."""

    started: float = field(default_factory=time.perf_counter)
    images: int = 0
    engine_s: float = 0.0
    score_s: float = 0.0
    generator_version: str = ""
    reward_version: str = ""
    fallback_reason: str = ""

    @property
    def elapsed_s(self) -> float:
        """Seconds since the start of the call."""
        return time.perf_counter() - self.started

    def add(self, images: Iterable[GeneratedImage], *, score_s: float = 0.0) -> None:
        """Images of one batch, which were drawn at the same time, or that were stored before."""
        batch_s = 0.0
        for image in images:
            self.images += 1
            batch_s = max(batch_s, image.engine_s)
            self.generator_version = image.generator_version
            self.reward_version = image.reward_version or self.reward_version
            self.fallback_reason = image.fallback_reason or self.fallback_reason
        self.engine_s += batch_s
        self.score_s += score_s

    def summary(self) -> GenerationSummary:
        """The summary for the caller."""
        return GenerationSummary(
            images=self.images,
            generator_version=self.generator_version,
            reward_version=self.reward_version,
            engine_s=self.engine_s,
            score_s=self.score_s,
            total_s=self.elapsed_s,
            fallback_reason=self.fallback_reason,
        )
