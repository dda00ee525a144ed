"""What a request must hold before any work is done for it. Pure: plain values in, frozen values or InvalidInput out."""

from __future__ import annotations

import hashlib
import math
import uuid
from dataclasses import dataclass

from vouch.errors import InvalidInput

MAX_IMAGES_PER_CALL = 64
MAX_IMAGES_PER_STREAM = 10_000
MAX_STEPS = 200
MAX_GUIDANCE = 30.0
MAX_SEED = 2**63 - 1
MAX_PROMPT = 1_000
MAX_REQUEST_ID = 128
MAX_ITEM_ID = 512
MAX_ITEMS = 64
CALL_TIMEOUT_S = 300.0
MAX_CALL_TIMEOUT_S = 3_600.0
MAX_STREAM_TIMEOUT_S = 86_400.0


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
    owner: str = "",
) -> Drawing:
    """Raises InvalidInput with a sentence that names the field, its limits, and what to do."""
    given_id = check_request_id(request_id)
    images = check_count(count, stream=stream)
    first = _default_seed(request_id) if seed is None else _within("seed", seed, 0, MAX_SEED)
    return Drawing(
        request_id=given_id,
        prompt=check_prompt(prompt),
        seeds=tuple((first + index) % (MAX_SEED + 1) for index in range(images)),
        steps=None if steps is None else _within("steps", steps, 1, MAX_STEPS),
        guidance=check_guidance(guidance),
        version=version,
        score=score,
        reward_version=reward_version,
        timeout_s=check_timeout(timeout_s, stream=stream),
        sampler=sampler,
        eta=check_eta(eta),
        preview_every=_within("preview_every", preview_every, 0, MAX_STEPS),
        client=client,
        owner=owner,
    )


def check_request_id(request_id: str) -> str:
    """The id itself, or a fresh one when there is none."""
    if len(request_id) > MAX_REQUEST_ID:
        raise InvalidInput(
            f"request_id has {len(request_id)} characters; at most {MAX_REQUEST_ID} are allowed. A UUID does."
        )
    return request_id or uuid.uuid4().hex


def check_count(count: int | None, *, stream: bool) -> int:
    limit = MAX_IMAGES_PER_STREAM if stream else MAX_IMAGES_PER_CALL
    number = 1 if count is None else count
    if 1 <= number <= limit:
        return number
    hint = "Ask for at least one." if number < 1 else _fewer(stream)
    raise InvalidInput(f"count is {number}; one call draws 1 to {limit} images. {hint}")


def _fewer(stream: bool) -> str:
    return (
        "Split it into several streams." if stream else "Use StreamImages for up to 10000, or several calls."
    )


def check_guidance(guidance: float | None) -> float | None:
    if guidance is None or (math.isfinite(guidance) and 0 <= guidance <= MAX_GUIDANCE):
        return guidance
    raise InvalidInput(
        f"guidance is {guidance}; it must be a number from 0 to {MAX_GUIDANCE:g}. Leave it out for the default."
    )


def check_eta(eta: float) -> float:
    if math.isfinite(eta) and 0 <= eta <= 1:
        return eta
    raise InvalidInput(f"eta is {eta}; it must be a number from 0 to 1. Leave it out for 0, no added noise.")


def check_prompt(prompt: str) -> str:
    if not prompt.strip():
        raise InvalidInput(
            "The prompt is empty: say what to draw; DescribeGenerator lists the words that work."
        )
    if len(prompt) > MAX_PROMPT:
        raise InvalidInput(f"The prompt has {len(prompt)} characters; at most {MAX_PROMPT} are allowed.")
    return prompt


def check_timeout(timeout_s: float | None, *, stream: bool) -> float | None:
    limit = MAX_STREAM_TIMEOUT_S if stream else MAX_CALL_TIMEOUT_S
    if timeout_s is None:
        return None if stream else CALL_TIMEOUT_S
    if math.isfinite(timeout_s) and 0 < timeout_s <= limit:
        return timeout_s
    raise InvalidInput(f"timeout_s is {timeout_s}; it must be above 0 and at most {limit:g} seconds.")


def check_items(count: int) -> None:
    """How many items one message of the reward service may hold."""
    if not 1 <= count <= MAX_ITEMS:
        hint = "Send at least one." if count < 1 else "Send several messages, or use ScoreStream."
        raise InvalidInput(f"The message holds {count} images; 1 to {MAX_ITEMS} are allowed. {hint}")


def check_item_id(item_id: str, *, needed: bool) -> str:
    if needed and not item_id:
        raise InvalidInput("item_id is empty: in a stream every item needs one, to match its result.")
    if len(item_id) > MAX_ITEM_ID:
        raise InvalidInput(f"item_id has {len(item_id)} characters; at most {MAX_ITEM_ID} are allowed.")
    return item_id


def _within(name: str, value: int, low: int, high: int) -> int:
    if low <= value <= high:
        return value
    shown = "2^63-1" if high == MAX_SEED else str(high)
    raise InvalidInput(f"{name} is {value}; it must be {low} to {shown}. Leave it out for the default.")


def _default_seed(request_id: str) -> int:
    """Random; for a named request always the same, so that a repeat of the call draws the same images."""
    name = request_id or uuid.uuid4().hex
    return int.from_bytes(hashlib.sha256(name.encode()).digest()[:8], "big") & MAX_SEED
