"""Guidance on the wire: fields of the contract's messages, and the values that everything else uses."""

from __future__ import annotations

from typing import Any

from vouch.errors import InvalidInput
from vouch.types.guidance import METHODS, GuidanceChoice, GuidanceOptions


def method_of(number: int) -> str:
    """1 → "cfg": the contract's enum counts METHODS from 1. "" for 0, the generator's own.

    Raises InvalidInput for a number that has no name.
    """
    if not 0 <= number <= len(METHODS):
        raise InvalidInput(f"guidance_method is {number}; choose one of {', '.join(METHODS)}.")
    return METHODS[number - 1] if number else ""


def number_of(method: str) -> Any:  # the stubs want their own enum type
    """The reverse."""
    return METHODS.index(method) + 1


def choice_of(request: Any) -> GuidanceChoice:
    """What a request for images says. Raises InvalidInput for a method that there is not."""

    def said(field: str) -> float | None:
        return getattr(request, field) if request.HasField(field) else None

    return GuidanceChoice(
        method=method_of(request.guidance_method) or None,
        start=said("guidance_start"),
        stop=said("guidance_stop"),
        adapter_start=said("adapter_start"),
    )


def fields_of(options: GuidanceOptions, prefix: str = "") -> dict[str, Any]:
    """The fields that say how an image was guided, or, with the prefix "default_", how it is by default."""
    return {
        f"{prefix}guidance_method": number_of(options.method),
        f"{prefix}guidance_start": options.start,
        f"{prefix}guidance_stop": options.stop,
        f"{prefix}adapter_start": options.adapter_start,
    }
