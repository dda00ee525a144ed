"""Images drawn whole by diffusers' own pipeline: the way of models whose scheduler no table can stand for."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from services.generation.denoise import Encode
from services.generation.slots import Slot
from vouch.errors import Cancelled


def alike(slots: Sequence[Slot]) -> list[list[Slot]]:
    """Slots that one call of the pipeline can draw: of equal steps and guidance."""
    groups: dict[tuple[int, float], list[Slot]] = {}
    for slot in slots:
        ticket = slot.ticket
        groups.setdefault((ticket.steps, ticket.guidance), []).append(slot)
    return list(groups.values())


def draw_whole(slots: Sequence[Slot], still_wanted: Callable[[Sequence[Slot]], bool], encode: Encode) -> None:
    """From noise to pixels. Ends early, with nothing handed out, when nobody wants them any more."""
    ticket = slots[0].ticket
    for slot in slots:
        slot.mates = 0  # of a batch that broke, if this is another try

    def on_step(step: int, total: int) -> bool:
        for slot in slots:
            slot.step = min(step, total - 1)  # the last step ends with the pixels
            slot.mates += len(slots)
        return still_wanted(slots)

    prompts, seeds = [slot.ticket.request.prompt for slot in slots], [slot.seed for slot in slots]
    try:
        images = ticket.model.generate(prompts, seeds, ticket.steps, ticket.guidance, on_step)
    except Cancelled:
        return
    for slot, image in zip(slots, images, strict=True):
        slot.step = slot.total
        slot.tell_finished(encode(image))
