"""A request for images as a frozen value, with what was left out filled in. The edge has checked its limits.

Pure: plain values in, a frozen value or InvalidInput out.
"""

from __future__ import annotations

import hashlib
import uuid
from dataclasses import dataclass

from vouch.errors import InvalidInput
from vouch.types.guidance import NO_CHOICE, GuidanceChoice, GuidanceOptions, check_fraction, check_method

SEEDS = 2**63
CALL_TIMEOUT_S = 300.0


@dataclass(frozen=True, kw_only=True)
class Drawing:
    """A checked request for images. None leaves the choice to the generator's own defaults."""

    request_id: str
    prompt: str
    seeds: tuple[int, ...]
    steps: int | None
    guidance: float | None
    version: str
    score: bool
    reward_version: str
    timeout_s: float | None  # None: no limit
    sampler: str = ""  # "": the generator's own
    eta: float = 0.0
    preview_every: int = 0
    client: str = ""  # who waits in one line
    choice: GuidanceChoice = NO_CHOICE
    owner: str = ""  # the name of the token to which request_id and the images belong


def check_drawing(
    *,
    request_id: str,
    prompt: str,
    count: int | None,
    seed: int | None,
    steps: int | None,
    guidance: float | None,
    version: str,
    score: bool,
    reward_version: str,
    timeout_s: float | None,
    stream: bool,
    sampler: str = "",
    eta: float = 0.0,
    preview_every: int = 0,
    client: str = "",
    choice: GuidanceChoice = NO_CHOICE,
    owner: str = "",
) -> Drawing:
    """Raises InvalidInput where the prompt is empty."""
    first = _default_seed(request_id) if seed is None else seed
    return Drawing(
        request_id=named(request_id),
        prompt=check_prompt(prompt),
        seeds=tuple((first + index) % SEEDS for index in range(1 if count is None else count)),
        steps=steps,
        guidance=guidance,
        version=version,
        score=score,
        reward_version=reward_version,
        timeout_s=CALL_TIMEOUT_S if timeout_s is None and not stream else timeout_s,
        sampler=sampler,
        eta=eta,
        preview_every=preview_every,
        client=client,
        choice=check_choice(choice, guidance),
        owner=owner,
    )


def named(request_id: str) -> str:
    """The id itself, or a fresh one when there is none."""
    return request_id or uuid.uuid4().hex


def check_choice(choice: GuidanceChoice, guidance: float | None) -> GuidanceChoice:
    """What can be told without the generator's defaults, which may yet leave no interval."""
    if choice.method is not None:
        check_method(choice.method)
    for name, value in (
        ("guidance_start", choice.start),
        ("guidance_stop", choice.stop),
        ("adapter_start", choice.adapter_start),
    ):
        if value is not None:
            check_fraction(name, value)
    if choice.method is not None and guidance is not None:
        GuidanceOptions(method=choice.method).check_scale(guidance)
    if choice.start is not None and choice.stop is not None:
        GuidanceOptions(start=choice.start, stop=choice.stop)
    return choice


def check_prompt(prompt: str) -> str:
    """Raises InvalidInput where it says nothing."""
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
