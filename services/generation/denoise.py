"""One denoising step of images that share a model, whatever their samplers, lengths and guidance. Pure torch."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch

from services.generation.slots import Preview, Slot
from vouch.errors import Internal
from vouch.models.predictions import asking_of, take_step
from vouch.models.sampling import Rows

Encode = Callable[[np.ndarray], Any]
"""What becomes of pixels, uint8 [H, W, 3], before they are handed out."""


def begin(slot: Slot) -> None:
    """Give an admitted slot its latents and its encoded prompt."""
    ticket, request, model = slot.ticket, slot.ticket.request, slot.model
    if not model.stepwise:
        return
    slot.path = model.trajectory(ticket.steps, request.sampler, request.eta)
    slot.set_total(len(slot.path))
    slot.asking = asking_of(model, request.prompt, slot.total, ticket.guidance, ticket.options)
    slot.generator = torch.Generator().manual_seed(slot.seed)
    slot.x = model.noise(slot.generator) * slot.path.start
    slot.x0 = slot.before = torch.zeros_like(slot.x)


def denoise(slots: Sequence[Slot]) -> None:
    """Take every slot one step further. When it raises, none has moved."""
    rows = Rows.of([(slot.path, slot.step) for slot in slots])
    stepped = take_step(
        [slot.asking[slot.step] for slot in slots],
        rows,
        torch.cat([slot.x for slot in slots]),
        torch.cat([slot.before for slot in slots]),
        _noise(slots),
    )
    for place, slot in enumerate(slots):
        one = slice(place, place + 1)
        slot.x, slot.x0 = stepped.x[one], stepped.x0[one]
        slot.before = slot.x0 if stepped.before is stepped.x0 else stepped.before[one]
        slot.step += 1
        slot.mates += len(slots)


def _noise(slots: Sequence[Slot]) -> torch.Tensor:
    """Fresh noise for those whose sampler takes some, each from its own generator."""
    return torch.cat(
        [
            slot.model.noise(slot.generator)
            if slot.path.noise_weight[slot.step]
            else torch.zeros_like(slot.x)
            for slot in slots
        ]
    )


@torch.inference_mode()
def finish(slots: Sequence[Slot], encode: Encode) -> None:
    """Turn clean latents into pixels and hand them out, but for those that nobody waits for any more.

    Latents that are not finite fail their own request alone.
    """
    good = [slot for slot in slots if not slot.ticket.cancelled and _finite(slot)]
    if not good:
        return
    images = good[0].model.decode(torch.cat([slot.x for slot in good]))
    for slot, image in zip(good, images, strict=True):
        slot.tell_finished(encode(image))


@torch.inference_mode()
def preview(slot: Slot, x0: torch.Tensor, step: int, encode: Encode) -> None:
    """Show the clean image that the network predicted after `step` steps, latents [1, C, h, w]."""
    if not slot.ticket.cancelled and x0.isfinite().all():
        image = slot.model.decode(x0)[0]
        slot.ticket.tell(Preview(slot.index, step, slot.total, encode(image)))
    slot.previewing = False


def _finite(slot: Slot) -> bool:
    finite = bool(slot.x.isfinite().all())
    if not finite:
        slot.ticket.fail(
            Internal("This image came out as no image at all: its latents are not finite numbers.")
        )
    return finite
