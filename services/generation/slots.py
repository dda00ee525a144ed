"""What the engine works on: requests, and the slots that their images take. No thread, no lock."""

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

if TYPE_CHECKING:  # whoever orders images needs no torch
    import torch

    from services.generation.model import Model
    from vouch.models.predictions import Asking
    from vouch.models.sampling import Trajectory


@dataclass(frozen=True)
class Progress:
    """Image `index` of the request has done `step` of `total` denoising steps."""

    index: int
    step: int
    total: int


@dataclass(frozen=True)
class Preview:
    """What image `index` would be if the network were right after `step` of `total` steps. `image` as in Finished."""

    index: int
    step: int
    total: int
    image: Any


@dataclass(frozen=True)
class Finished:
    """Image `index` of the request as the engine's `encode` made it (without one: uint8 [H, W, 3]), seconds it waited,
    seconds from its first step to its pixels, and the mean number of images that were denoised together with it."""

    index: int
    image: Any
    queued_s: float
    compute_s: float
    batch: float


@dataclass(frozen=True)
class Broken:
    """The request has failed; nothing more follows."""

    error: VouchError


Event = Progress | Preview | Finished | Broken
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
    why: str = field(default="")
    """Why its slots are let go: "cancelled", "deaf", or the reason of the error that ended it."""
    _telling: threading.RLock = field(default_factory=threading.RLock, repr=False)

    def __post_init__(self) -> None:
        request = self.request
        assert request.steps is not None and request.guidance is not None
        self.steps, self.guidance, self.options = request.steps, request.guidance, request.guidance_options
        self.deadline = math.inf if request.timeout_s is None else time.monotonic() + request.timeout_s

    def cancel(self, why: str = "cancelled") -> None:
        self.why = self.why or why
        self.cancelled = True

    def tell(self, event: Event) -> None:
        """Deliver, unless the request has ended. A listener that raises is one who has left."""
        with self._telling:
            if self.cancelled:
                return
            try:
                self.deliver(event)
            except Exception:  # noqa: BLE001 - it is theirs: nobody else's image shall mind
                self.cancel("deaf")

    def fail(self, error: VouchError) -> None:
        """The first failure of a request is told, and ends it."""
        with self._telling:  # two threads may find something wrong at once
            self.tell(Broken(error))
            self.cancel(error.reason.lower())

    def expire(self, now: float) -> None:
        """Fail when the time that the caller gave is up."""
        if now > self.deadline and not self.cancelled:
            self.fail(
                DeadlineExceeded(
                    "The images were not ready within timeout_s. Allow more, or ask for fewer images or steps."
                )
            )


@dataclass(eq=False)
class Slot:
    """One image on its way. Latents [1, C, h, w] and what the sampler remembers exist from admission on."""

    ticket: Ticket
    index: int
    since: float
    admitted: float = 0.0
    step: int = 0
    total: int = 0
    mates: int = 0
    """Images denoised together, summed over the steps."""
    free_since: int | None = None
    """The engine's step count when it came, as long as the steps since then had room for it."""
    previewing: bool = False
    previewed: int = 0
    """The step of its last preview."""
    guided: range = field(init=False)
    """The steps that take the network twice."""
    path: Trajectory = field(init=False)
    asking: tuple[Asking, ...] = field(init=False)
    """What it asks of the networks, step by step."""
    generator: torch.Generator = field(init=False)
    x: torch.Tensor = field(init=False)
    x0: torch.Tensor = field(init=False)
    """The clean latents that the last step predicted; beside them `before`, those that the sampler remembers."""
    before: torch.Tensor = field(init=False)

    def __post_init__(self) -> None:
        self.set_total(self.ticket.steps)

    def set_total(self, steps: int) -> None:
        """How many steps it takes."""
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
        """What its next step takes of a batch: guidance needs a network twice."""
        return 2 if self.step in self.guided else 1

    @property
    def rows_left(self) -> int:
        """What it still has to take."""
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
        """After so many steps, or as soon as the preview before has been made; the last step has the image itself."""
        every = self.ticket.request.preview_every
        return bool(every) and not self.previewing and not self.done and self.step >= self.previewed + every

    def tell_finished(self, image: Any) -> None:
        queued_s, compute_s = self.admitted - self.since, time.monotonic() - self.admitted
        self.ticket.tell(Finished(self.index, image, queued_s, compute_s, self.mates / self.total))
