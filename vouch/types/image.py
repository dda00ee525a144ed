"""Images and their provenance."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Literal, get_args

from vouch.types.clock import now
from vouch.types.guidance import PLAIN, GuidanceChoice, GuidanceOptions

ImageSource = Literal["generated", "real", "uploaded"]
IMAGE_SOURCES: tuple[str, ...] = get_args(ImageSource)


@dataclass(frozen=True, kw_only=True)
class ImageRecord:
    """Provenance of an image. The bytes are in the blob store under `digest`."""

    digest: str
    media_type: str
    width: int  # pixels
    height: int  # pixels
    size_bytes: int
    source: ImageSource
    prompt: str = ""
    label: str = ""  # the declared class, e.g. "neutrophil"
    seed: int | None = None  # 0 .. 2^63-1
    sampler: str = ""
    steps: int | None = None
    guidance: float | None = None  # the scale; the rest as in vouch.types.guidance.GuidanceOptions
    guidance_method: str = ""
    guidance_start: float | None = None
    guidance_stop: float | None = None
    adapter_start: float | None = None
    negative_prompt: str = ""
    generator_version: str = ""  # digest
    request_id: str = ""
    created_at: datetime = field(default_factory=now)

    @property
    def guidance_options(self) -> GuidanceOptions:
        """The guidance options, to generate it again; those of `PLAIN` if the record has none."""
        choice = GuidanceChoice(
            method=self.guidance_method or None,
            start=self.guidance_start,
            stop=self.guidance_stop,
            adapter_start=self.adapter_start,
            negative_prompt=self.negative_prompt,
        )
        return choice.upon(PLAIN)


@dataclass(frozen=True, kw_only=True)
class StoredImage(ImageRecord):
    """A stored image for callers: its bytes (none in lists), its first score, and its number of ratings."""

    data: bytes = field(default=b"", repr=False)
    generator_name: str = ""
    reward_version: str = ""  # digest; "" when it was not scored
    score: float | None = None
    score_std: float | None = None
    criterion_scores: Mapping[str, float] = field(default_factory=dict)
    rating_count: int = 0  # superseded ratings left out


@dataclass(frozen=True, kw_only=True)
class RealImage:
    """A real image to hide in reviews: encoded bytes, and its class with or without attributes."""

    data: bytes = field(repr=False)
    prompt: str
