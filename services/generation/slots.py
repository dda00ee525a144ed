"""What the engine works on: requests, and the slots that their images take. No thread, no lock."""

from __future__ import annotations

import time
from collections import OrderedDict, deque
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np

from vouch.errors import VouchError

if TYPE_CHECKING:  # whoever orders images needs no torch
    import torch

    from services.generation.model import Model
    from vouch.sampling import Trajectory


@dataclass(frozen=True)
class ImageRequest:
    """One image for each seed. `client` is who asks: waiting clients take turns."""

    model: Model
    prompt: str
    seeds: tuple[int, ...]
    steps: int
    guidance: float
    client: str = ""
    progress: bool = False


@dataclass(frozen=True)
class Progress:
    """Image `index` of the request has done `step` of `total` denoising steps."""

    index: int
    step: int
    total: int


@dataclass(frozen=True)
class Finished:
    """Image `index` of the request: uint8 [H, W, 3], seconds it waited, seconds from its first step to its pixels, and
    the mean number of images that were denoised together with it."""

    index: int
    image: np.ndarray
    queued_s: float
    compute_s: float
    batch: float


@dataclass(frozen=True)
class Broken:
    """The request has failed; nothing more follows."""

    error: VouchError


Event = Progress | Finished | Broken
Deliver = Callable[[Event], None]


@dataclass(eq=False)
class Ticket:
    """A submitted request. `cancel()` may be called from any thread, any number of times."""

    request: ImageRequest
    deliver: Deliver
    cancelled: bool = field(default=False)

    def cancel(self) -> None:
        self.cancelled = True

    def tell(self, event: Event) -> None:
        if not self.cancelled:
            self.deliver(event)

    def fail(self, error: VouchError) -> None:
        """The first failure of a request is told, and ends it."""
        self.tell(Broken(error))
        self.cancel()


@dataclass(eq=False)
class Slot:
    """One image on its way. Latents [1, C, h, w] and what the sampler remembers exist from admission on."""

    ticket: Ticket
    index: int
    since: float
    admitted: float = 0.0
    step: int = 0
    total: int = 1
    mates: int = 0
    """Images denoised together, summed over the steps."""
    path: Trajectory = field(init=False)
    generator: torch.Generator = field(init=False)
    x: torch.Tensor = field(init=False)
    x0: torch.Tensor = field(init=False)
    said: torch.Tensor = field(init=False)
    """The encoded prompt, [1, L, D]; beside it `unsaid`, the empty prompt, where guidance wants it."""
    unsaid: torch.Tensor | None = field(init=False)

    @property
    def model(self) -> Model:
        return self.ticket.request.model

    @property
    def seed(self) -> int:
        return self.ticket.request.seeds[self.index]

    @property
    def done(self) -> bool:
        return self.step >= self.total

    def tell_finished(self, image: np.ndarray) -> None:
        queued_s, compute_s = self.admitted - self.since, time.monotonic() - self.admitted
        self.ticket.tell(Finished(self.index, image, queued_s, compute_s, self.mates / self.total))


class Waiting:
    """Slots that wait, in one line per client. Not thread-safe: the engine calls it under its lock."""

    def __init__(self) -> None:
        self._lines: OrderedDict[str, deque[Slot]] = OrderedDict()
        self._count = 0

    def __len__(self) -> int:
        return self._count

    def add(self, slot: Slot) -> None:
        self._lines.setdefault(slot.ticket.request.client, deque()).append(slot)
        self._count += 1

    def take(self, limit: int) -> list[Slot]:
        """Up to `limit` slots, one of each client in turn; cancelled ones are dropped."""
        self.drop_cancelled()
        taken: list[Slot] = []
        while len(taken) < limit and self._lines:
            client, line = self._lines.popitem(last=False)
            taken.append(line.popleft())
            self._count -= 1
            if line:
                self._lines[client] = line  # behind the others now
        return taken

    def drop_cancelled(self) -> None:
        """Whoever left leaves room."""
        lines = (
            (client, [s for s in line if not s.ticket.cancelled]) for client, line in self._lines.items()
        )
        self._lines = OrderedDict((client, deque(line)) for client, line in lines if line)
        self._count = sum(map(len, self._lines.values()))
