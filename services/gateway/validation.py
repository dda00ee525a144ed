"""Fills in the defaults of a request for images. The edge has checked its limits.

Pure: plain values in, a frozen value or InvalidInput out.
"""

from __future__ import annotations

import hashlib
import uuid
from dataclasses import replace

from vouch.errors import InvalidInput
from vouch.types.generation import GenerationRequest
from vouch.types.guidance import GuidanceOptions, check_fraction, check_method

SEEDS = 2**63
CALL_TIMEOUT_S = 300.0


def checked(request: GenerationRequest, *, stream: bool) -> GenerationRequest:
    """The request with an id, the positions of its images and, unless it streams, a limit of time.

    Raises:
        InvalidInput: the prompt is empty, or what is said of guidance can be no generator's.
    """
    check_prompt(request.prompt)
    check_guidance(request)
    return replace(
        request,
        request_id=named(request.request_id),
        indices=tuple(range(len(request.seeds))),
        timeout_s=CALL_TIMEOUT_S if request.timeout_s is None and not stream else request.timeout_s,
    )


def seeds(request_id: str, first: int | None, count: int) -> tuple[int, ...]:
    """The seeds of `count` images. first: None for a random one, which is always the same for a named request."""
    start = _default_seed(request_id) if first is None else first
    return tuple((start + index) % SEEDS for index in range(count))


def named(request_id: str) -> str:
    """The id itself, or a fresh one when there is none."""
    return request_id or uuid.uuid4().hex


def check_guidance(request: GenerationRequest) -> None:
    """Checks that need no defaults of the generator; the interval is checked again with them."""
    choice = request.choice
    if choice.method is not None:
        check_method(choice.method)
    for name in ("guidance_start", "guidance_stop", "adapter_start"):
        value = getattr(request, name)
        if value is not None:
            check_fraction(name, value)
    if choice.method is not None and request.guidance is not None:
        GuidanceOptions(method=choice.method).check_scale(request.guidance)
    if choice.start is not None and choice.stop is not None:
        GuidanceOptions(start=choice.start, stop=choice.stop)


def check_prompt(prompt: str) -> str:
    """Raises InvalidInput for an empty prompt."""
    if not prompt.strip():
        raise InvalidInput(
            "The prompt is empty: say what to draw; DescribeGenerator lists the words that work."
        )
    return prompt


def check_items(count: int) -> None:
    """Raises InvalidInput where a message of the reward service holds none."""
    if count < 1:
        raise InvalidInput("items holds no image; send at least one.")


def check_item_id(item_id: str, *, needed: bool) -> str:
    """Raises InvalidInput where an item of a stream has none."""
    if needed and not item_id:
        raise InvalidInput("item_id is empty: in a stream every item needs one, to match its result.")
    return item_id


def _default_seed(request_id: str) -> int:
    """Random; for a named request always the same, so that a repeat of the call draws the same images."""
    name = request_id or uuid.uuid4().hex
    return int.from_bytes(hashlib.sha256(name.encode()).digest()[:8], "big") % SEEDS
