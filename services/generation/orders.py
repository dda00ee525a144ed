"""What the gateway orders from a generation replica, and what comes back: plain values that travel."""

from __future__ import annotations

from dataclasses import dataclass

from vouch.types.guidance import NO_CHOICE, PLAIN, GuidanceChoice, GuidanceOptions

COMPARISON = "rollout-comparison"
"""The client that draws what another version has served, to compare the two."""


@dataclass(frozen=True, kw_only=True)
class DrawOrder:
    """One image per seed. None leaves the choice to the version's own defaults."""

    request_id: str  # chooses between champion and candidate
    prompt: str
    seeds: tuple[int, ...]
    indices: tuple[int, ...]  # position of each seed in the client's request
    steps: int | None = None
    guidance: float | None = None
    version: str = ""  # digest; "" for what the routing table says
    client: str = ""
    progress: bool = False
    sampler: str = ""  # "" is the version's own
    eta: float = 0.0
    preview_every: int = 0  # steps; 0: none
    timeout_s: float | None = None  # from now on; None: no limit
    choice: GuidanceChoice = NO_CHOICE


@dataclass(frozen=True, kw_only=True)
class DrawProgress:
    """How far the furthest image of this order is."""

    step: int
    total: int


@dataclass(frozen=True, kw_only=True)
class DrawPreview:
    """How an image would look if it were done now."""

    index: int
    step: int
    total: int
    data: bytes  # PNG


@dataclass(frozen=True, kw_only=True)
class Drawn:
    """An encoded image and all that it takes to draw it again."""

    index: int
    data: bytes  # PNG
    width: int
    height: int
    seed: int
    sampler: str
    steps: int
    guidance: float
    options: GuidanceOptions
    version: str  # digest
    version_name: str
    label: str  # the class that the prompt declares, "" when the version has no vocabulary
    engine_s: float  # seconds from its first step to its pixels
    waited_s: float
    whole_because: str = ""  # why diffusers' own pipeline drew it


@dataclass(frozen=True, kw_only=True)
class Description:
    """What a generator understands. No labels and no attributes: any prompt goes."""

    version: str
    version_name: str
    width: int
    height: int
    sampler: str
    default_steps: int
    default_guidance: float
    labels: tuple[str, ...] = ()
    attributes: tuple[tuple[str, tuple[str, ...]], ...] = ()
    examples: tuple[str, ...] = ()
    whole_because: str = ""
    kernel: str = ""  # how its U-Net is computed, and why
    samplers: tuple[str, ...] = ()
    default_options: GuidanceOptions = PLAIN
    guidance_methods: tuple[str, ...] = ("cfg",)
