"""Requests for images and their results, shared by gateway, engine and client."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from datetime import datetime
from typing import Any

from vouch import tracing
from vouch.types.clock import now
from vouch.types.guidance import PLAIN, GuidanceChoice, GuidanceOptions
from vouch.types.image import ImageRecord
from vouch.types.score import Score, image_fields


@dataclass(frozen=True, kw_only=True)
class GenerationRequest:
    """One image per seed. None and "" mean the version's default, which the generation deployment fills in before the
    engine sees the request."""

    prompt: str
    seeds: tuple[int, ...]  # each 0 .. 2^63-1
    indices: tuple[int, ...] = ()  # position of each seed in the caller's request; (): 0, 1, 2 ...
    request_id: str = ""  # chooses between champion and candidate
    steps: int | None = None
    guidance: float | None = None  # the scale
    sampler: str = ""
    eta: float = 0.0
    guidance_method: str = ""
    guidance_start: float | None = None
    guidance_stop: float | None = None
    adapter_start: float | None = None
    negative_prompt: str = ""
    version: str = (
        ""  # of the generator: a reference at first, a digest from the gateway on; "": by the routing table
    )
    assigned: bool = False  # whether `version` is the routing table's choice, which a stream keeps
    score: bool = True
    reward_version: str = ""
    timeout_s: float | None = None  # seconds from now on; None: no limit
    preview_every: int = 0  # steps between previews of the predicted clean image; 0: none
    progress: bool = False  # whether steps are reported
    client: str = ""  # fair-scheduling key: clients share the machine equally
    owner: str = ""  # name of the token to which request_id and the images belong
    resent: bool = False  # whether its previous replica died; it is then scheduled first
    trace: str = field(default_factory=tracing.current)  # traceparent of the call; "" where tracing is off

    @property
    def choice(self) -> GuidanceChoice:
        """The guidance options of the request, without the scale."""
        return GuidanceChoice(
            method=self.guidance_method or None,
            start=self.guidance_start,
            stop=self.guidance_stop,
            adapter_start=self.adapter_start,
            negative_prompt=self.negative_prompt,
        )

    @property
    def guidance_options(self) -> GuidanceOptions:
        """The guidance options, with the defaults of `PLAIN`."""
        return self.choice.upon(PLAIN)

    def index(self, number: int) -> int:
        """Position in the caller's request of the image of seed `number`."""
        return self.indices[number] if self.indices else number


@dataclass(frozen=True, kw_only=True)
class GeneratedImage:
    """An encoded image with everything needed to generate it again. The gateway adds digest and score."""

    data: bytes = field(repr=False)
    media_type: str
    digest: str = ""  # SHA-256 of `data`
    index: int  # position in the request
    width: int  # pixels
    height: int  # pixels
    prompt: str
    seed: int
    sampler: str
    steps: int
    guidance: float
    generator_version: str  # digest
    generator_name: str
    reward_version: str = ""  # digest; "" when it was not scored
    score: float | None = None  # probability that an expert finds it plausible, 0..1
    score_std: float | None = None
    criterion_scores: Mapping[str, float] = field(default_factory=dict)
    created_at: datetime | None = field(default_factory=now)
    guidance_method: str
    guidance_start: float
    guidance_stop: float
    adapter_start: float
    negative_prompt: str = ""
    # Within the server alone; a client gets the defaults.
    label: str = field(default="", repr=False)  # the class that the prompt declares, "" without a vocabulary
    engine_s: float = field(default=0.0, repr=False)  # seconds from the first step to the pixels
    fallback_reason: str = field(default="", repr=False)  # why the diffusers pipeline generated it

    def record(self, request_id: str) -> ImageRecord:
        """The catalog record of the image."""
        own = {one.name: getattr(self, one.name) for one in fields(ImageRecord) if hasattr(self, one.name)}
        return ImageRecord(**own, size_bytes=len(self.data), source="generated", request_id=request_id)

    @classmethod
    def restored(cls, record: ImageRecord, score: Score | None, **more: Any) -> GeneratedImage:
        """An image from its catalog record. more: its data, index and generator_name."""
        own = {one.name: getattr(record, one.name) for one in fields(cls) if hasattr(record, one.name)}
        options = record.guidance_options
        how = {
            "guidance_method": options.method,
            "guidance_start": options.start,
            "guidance_stop": options.stop,
            "negative_prompt": options.negative_prompt,
            "adapter_start": options.adapter_start,
        }
        return cls(**{**own, **how, **image_fields(score), **more})


@dataclass(frozen=True, kw_only=True)
class GenerationProgress:
    """Progress of a request; `step` is that of its most advanced image."""

    images_done: int = 0
    images_total: int = 0
    step: int
    total_steps: int
    elapsed_s: float = 0.0


@dataclass(frozen=True, kw_only=True)
class ImagePreview:
    """The clean image predicted after `step` steps."""

    index: int
    step: int
    total_steps: int
    data: bytes = field(repr=False)
    media_type: str


@dataclass(frozen=True, kw_only=True)
class GenerationSummary:
    """Timing and versions of a request. Times in seconds."""

    images: int = 0
    generator_version: str = ""
    reward_version: str = ""
    engine_s: float = 0.0
    score_s: float = 0.0
    total_s: float = 0.0
    fallback_reason: str = ""


GenerationEvent = GenerationProgress | ImagePreview | GeneratedImage | GenerationSummary
"""The events of a stream of images."""


@dataclass(frozen=True, kw_only=True)
class GenerateImagesResponse:
    """All images of a call, in order."""

    request_id: str
    images: tuple[GeneratedImage, ...]
    generator_version: str
    reward_version: str
    summary: GenerationSummary | None
