"""Requests as the engine takes them: with the model that draws, and nothing left to its defaults."""

from __future__ import annotations

from typing import Any

from vouch.types.generation import GenerationRequest
from vouch.types.guidance import PLAIN, GuidanceOptions


def image_request(
    model: Any,
    prompt: str,
    seeds: tuple[int, ...],
    steps: int,
    guidance: float,
    *,
    options: GuidanceOptions = PLAIN,
    **more: Any,
) -> tuple[Any, GenerationRequest]:
    """The first arguments of `Engine.submit`, `Engine.stream` and `Ticket`."""
    return model, GenerationRequest(
        prompt=prompt,
        seeds=seeds,
        steps=steps,
        guidance=guidance,
        guidance_method=options.method,
        guidance_start=options.start,
        guidance_stop=options.stop,
        adapter_start=options.adapter_start,
        negative_prompt=options.negative_prompt,
        **more,
    )
