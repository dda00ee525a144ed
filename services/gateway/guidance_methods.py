"""Guidance methods on the wire: numbers of the contract's enum, and the names that everything else uses."""

from __future__ import annotations

from typing import Any

from vouch.errors import InvalidInput
from vouch.guidance import METHODS
from vouch.pb.v1 import generation_pb2

_PREFIX = "GUIDANCE_METHOD_"


def word(number: int) -> str:
    """GUIDANCE_METHOD_CFG → "cfg"; "" for the generator's own. Raises InvalidInput for a number that has no name."""
    if number == generation_pb2.GUIDANCE_METHOD_UNSPECIFIED:
        return ""
    known = generation_pb2.GuidanceMethod.DESCRIPTOR.values_by_number.get(number)
    if known is None:
        raise InvalidInput(f"guidance_method is {number}; choose one of {', '.join(METHODS)}.")
    return known.name.removeprefix(_PREFIX).lower()


def number(method: str) -> Any:  # the stubs want their own enum type
    """The reverse."""
    return generation_pb2.GuidanceMethod.Value(_PREFIX + method.upper())
