"""One denoising step of images that share a model, whatever their samplers, lengths and guidance. Pure torch."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch

from services.generation.slots import Preview, Slot
from vouch.errors import Internal
from vouch.models.predictions import guided_steps, take_step
from vouch.models.sampling import Rows

Encode = Callable[[np.ndarray], Any]
"""Encodes pixels, uint8 [H, W, 3], for delivery."""


def begin(slot: Slot) -> None:
    """Give an admitted slot its latents and its encoded prompt."""
    ticket, request, model = slot.ticket, slot.ticket.request, slot.model
    if not model.stepwise:
        return
    slot.trajectory = model.trajectory(ticket.steps, request.sampler, request.eta)
    slot.set_total(len(slot.trajectory))
    slot.guided_steps = guided_steps(model, request.prompt, slot.total, ticket.guidance, ticket.options)
    slot.generator = torch.Generator().manual_seed(slot.seed)
    slot.x = model.noise(slot.generator) * slot.trajectory.start
    slot.x0 = slot.previous_x0 = torch.zeros_like(slot.x)


def denoise(slots: Sequence[Slot]) -> None:
    """Advance every slot by one step. When it raises, no slot has moved."""
    rows = Rows.of([(slot.trajectory, slot.step) for slot in slots])
    stepped = take_step(
        [slot.guided_steps[slot.step] for slot in slots],
        rows,
        torch.cat([slot.x for slot in slots]),
        torch.cat([slot.previous_x0 for slot in slots]),
        _noise(slots),
    )
    for index, slot in enumerate(slots):
        row = slice(index, index + 1)
        slot.x, slot.x0 = stepped.x[row], stepped.x0[row]
        slot.previous_x0 = slot.x0 if stepped.previous_x0 is stepped.x0 else stepped.previous_x0[row]
        slot.step += 1
        slot.batch_images += len(slots)


def _noise(slots: Sequence[Slot]) -> torch.Tensor:
    """Fresh noise [N, C, h, w] for stochastic samplers, from each slot's own generator; zeros for the others."""
    return torch.cat(
        [
            slot.model.noise(slot.generator)
            if slot.trajectory.noise_weight[slot.step]
            else torch.zeros_like(slot.x)
            for slot in slots
        ]
    )


@torch.inference_mode()
def finish(slots: Sequence[Slot], encode: Encode) -> None:
    """Decode clean latents into pixels and deliver them. Cancelled requests are skipped.

    Latents that are not finite fail only their own request.
    """
    finite = [slot for slot in slots if not slot.ticket.cancelled and _check_finite(slot)]
    if not finite:
        return
    images = finite[0].model.decode(torch.cat([slot.x for slot in finite]))
    for slot, image in zip(finite, images, strict=True):
        slot.deliver_finished(encode(image))


@torch.inference_mode()
def preview(slot: Slot, x0: torch.Tensor, step: int, encode: Encode) -> None:
    """Deliver the clean image predicted after `step` steps. x0: latents [1, C, h, w]."""
    if not slot.ticket.cancelled and x0.isfinite().all():
        image = slot.model.decode(x0)[0]
        slot.ticket.send(Preview(slot.index, step, slot.total, encode(image)))
    slot.previewing = False


def _check_finite(slot: Slot) -> bool:
    finite = bool(slot.x.isfinite().all())
    if not finite:
        slot.ticket.fail(Internal("The latents of this image are not finite."))
    return finite
