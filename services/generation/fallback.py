"""The fallback to the diffusers pipeline, for schedulers without a table of coefficients."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from services.generation.denoise import Encode
from services.generation.slots import Slot
from vouch.errors import Cancelled
from vouch.types.guidance import GuidanceOptions


def group_by_settings(slots: Sequence[Slot]) -> list[list[Slot]]:
    """Slots for one call of the pipeline: equal steps, guidance and negative prompt."""
    groups: dict[tuple[int, float, GuidanceOptions], list[Slot]] = {}
    for slot in slots:
        ticket = slot.ticket
        groups.setdefault((ticket.steps, ticket.guidance, ticket.options), []).append(slot)
    return list(groups.values())


def draw_by_pipeline(
    slots: Sequence[Slot], still_wanted: Callable[[Sequence[Slot]], bool], encode: Encode
) -> None:
    """Generate whole images, from noise to pixels. Stops early, without an image, when `still_wanted` returns False."""
    ticket = slots[0].ticket
    for slot in slots:
        slot.batch_images = 0  # a failed batch is drawn again slot by slot

    def on_step(step: int, total: int) -> bool:
        for slot in slots:
            slot.step = min(step, total - 1)  # the last step ends with the pixels
            slot.batch_images += len(slots)
        return still_wanted(slots)

    prompts, seeds = [slot.ticket.request.prompt for slot in slots], [slot.seed for slot in slots]
    try:
        images = ticket.model.generate(prompts, seeds, ticket.steps, ticket.guidance, on_step, ticket.options)
    except Cancelled:
        return
    for slot, image in zip(slots, images, strict=True):
        slot.step = slot.total
        slot.deliver_finished(encode(image))
