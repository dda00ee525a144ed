"""Requests, their tickets and events, and the slots of their images."""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from vouch.errors import DeadlineExceeded, VouchError
from vouch.types.generation import GenerationRequest
from vouch.types.guidance import GuidanceOptions

if TYPE_CHECKING:  # the gateway imports this module without torch
    import torch

    from services.generation.model import Model
    from vouch.models.predictions import GuidedStep
    from vouch.models.sampling import Trajectory


@dataclass(frozen=True)
class StepProgress:
    """Image `index` of the request has done `step` of `total` denoising steps."""

    index: int
    step: int
    total: int


@dataclass(frozen=True)
class Preview:
    """The predicted clean image of image `index` after `step` of `total` steps. `image` as in Finished."""

    index: int
    step: int
    total: int
    image: Any


@dataclass(frozen=True)
class Finished:
    """Image `index` of the request is done."""

    index: int
    image: Any
    """The result of the engine's `encode`; without one, pixels uint8 [H, W, 3]."""
    queued_s: float
    """Seconds from the request to its first step."""
    compute_s: float
    """Seconds from its first step to its pixels."""
    batch: float
    """Mean number of images denoised together with it."""


@dataclass(frozen=True)
class Failed:
    """The request has failed; nothing more follows."""

    error: VouchError


Event = StepProgress | Preview | Finished | Failed
Deliver = Callable[[Event], None]


@dataclass(eq=False)
class Ticket:
    """A submitted request and the model that draws it. `cancel()` may be called from any thread, any number of times.

    The request leaves neither steps nor guidance to the model.
    """

    model: Model
    request: GenerationRequest
    deliver: Deliver
    steps: int = field(init=False)
    guidance: float = field(init=False)
    options: GuidanceOptions = field(init=False)
    deadline: float = field(init=False)
    """time.monotonic() after which nobody waits any more."""
    cancelled: bool = field(default=False)
    eviction_reason: str = field(default="")
    """Why its slots were evicted: "cancelled", "listener_failed", or the reason of the error that ended it."""
    _delivery: threading.RLock = field(default_factory=threading.RLock, repr=False)

    def __post_init__(self) -> None:
        request = self.request
        assert request.steps is not None and request.guidance is not None
        self.steps, self.guidance, self.options = request.steps, request.guidance, request.guidance_options
        self.deadline = math.inf if request.timeout_s is None else time.monotonic() + request.timeout_s

    @property
    def rows(self) -> int:
        """Rows of all steps of all its images."""
        return len(self.request.seeds) * (
            self.steps + len(self.options.guided_steps(self.guidance, self.steps))
        )

    def cancel(self, reason: str = "cancelled") -> None:
        """End the request; its slots are evicted at the next step. The first reason counts."""
        self.eviction_reason = self.eviction_reason or reason
        self.cancelled = True

    def send(self, event: Event) -> None:
        """Deliver the event, unless the request has ended. A listener that raises cancels its request."""
        with self._delivery:
            if self.cancelled:
                return
            try:
                self.deliver(event)
            except Exception:  # noqa: BLE001 - a listener's error must not reach other requests
                self.cancel("listener_failed")

    def fail(self, error: VouchError) -> None:
        """End the request with an error. Only the first failure is delivered."""
        with self._delivery:  # the engine's and the decoder's thread may fail one request at once
            self.send(Failed(error))
            self.cancel(error.reason.lower())

    def expire(self, now: float) -> None:
        """Fail the request when its deadline has passed."""
        if now > self.deadline and not self.cancelled:
            self.fail(
                DeadlineExceeded(
                    "The images were not ready within timeout_s. Allow more, or ask for fewer images or steps."
                )
            )


@dataclass(eq=False)
class Slot:
    """One image of a request. Its latents [1, C, h, w] and sampler state exist from admission on."""

    ticket: Ticket
    index: int
    since: float
    admitted: float = 0.0
    step: int = 0
    total: int = 0
    batch_images: int = 0
    """Images denoised together, summed over the steps."""
    free_since: int | None = None
    """The engine's step count at its arrival, while every step since then had a free slot for it."""
    previewing: bool = False
    previewed: int = 0
    """The step of its last preview."""
    guided: range = field(init=False)
    """The steps that evaluate the network twice."""
    trajectory: Trajectory = field(init=False)
    guided_steps: tuple[GuidedStep, ...] = field(init=False)
    """The networks and prompts of every step."""
    generator: torch.Generator = field(init=False)
    x: torch.Tensor = field(init=False)
    x0: torch.Tensor = field(init=False)
    """The clean latents that the last step predicted."""
    previous_x0: torch.Tensor = field(init=False)
    """The clean latents that a two-step sampler remembers."""

    def __post_init__(self) -> None:
        self.set_total(self.ticket.steps)

    def set_total(self, steps: int) -> None:
        """Set the number of its steps."""
        ticket = self.ticket
        self.total, self.guided = steps, ticket.options.guided_steps(ticket.guidance, steps)

    @property
    def model(self) -> Model:
        return self.ticket.model

    @property
    def seed(self) -> int:
        return self.ticket.request.seeds[self.index]

    @property
    def rows(self) -> int:
        """Rows of its next step in the batch: 2 where guidance evaluates a second prompt or network."""
        return 2 if self.step in self.guided else 1

    @property
    def rows_left(self) -> int:
        """Rows of all its remaining steps."""
        guided = self.guided.stop - max(self.step, self.guided.start)
        return self.total - self.step + max(0, guided)

    @property
    def begun(self) -> bool:
        return self.admitted > 0

    @property
    def done(self) -> bool:
        return self.step >= self.total

    @property
    def wants_preview(self) -> bool:
        """Every `preview_every` steps, unless a preview is being decoded. The last step sends the image itself."""
        every = self.ticket.request.preview_every
        return bool(every) and not self.previewing and not self.done and self.step >= self.previewed + every

    def deliver_finished(self, image: Any) -> None:
        queued_s, compute_s = self.admitted - self.since, time.monotonic() - self.admitted
        self.ticket.send(Finished(self.index, image, queued_s, compute_s, self.batch_images / self.total))
