"""The limit of every field that a caller may fill, in one table, checked for every request at the edge.

A field is looked up as "Message.field", then as "field". A field without a limit fails the tests, and so does a limit
that the field's comment in the contract does not state.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Protocol

from vouch.errors import InvalidInput

MIB = 2**20
MAX_SEED = 2**63 - 1
YEAR_MS = 366 * 24 * 3600 * 1000
FIRST_SECOND, LAST_SECOND = -62_135_596_800, 253_402_300_799  # of the years 1 and 9999, which datetime knows


class Limit(Protocol):
    """What a value must hold. `problem` completes the sentence that begins with the field's name; "" when it holds."""

    def problem(self, value: Any) -> str: ...


@dataclass(frozen=True)
class Text:
    """At most so many characters."""

    most: int
    hint: str = ""

    def problem(self, value: str) -> str:
        if len(value) > self.most:
            return _with_hint(f"has {len(value)} characters; at most {self.most} are allowed.", self.hint)
        return "has a NUL character, which no text may hold." if "\0" in value else ""


@dataclass(frozen=True)
class Bytes:
    """At most so many bytes."""

    most: int

    def problem(self, value: bytes) -> str:
        if len(value) <= self.most:
            return ""
        return f"has {len(value) / MIB:.1f} MiB; at most {self.most // MIB} MiB are accepted."


@dataclass(frozen=True)
class Number:
    """From `low` to `high`, both allowed unless `above`: then `low` itself is not. Infinity and NaN never are."""

    low: float
    high: float
    hint: str = ""
    above: bool = False

    def problem(self, value: float) -> str:
        if math.isfinite(value) and self.low <= value <= self.high and not (self.above and value == self.low):
            return ""
        span = f"above {_shown(self.low)}, at most" if self.above else f"{_shown(self.low)} to"
        return _with_hint(f"is {value}; it must be {span} {_shown(self.high)}.", self.hint)


@dataclass(frozen=True)
class Count:
    """So many entries of a repeated field. `each`: what every entry must hold that is no message, whose fields have
    limits themselves. `apart`: each entry has an outcome of its own and is checked with it."""

    most: int
    hint: str = ""
    each: Limit | None = None
    apart: bool = False

    def problem(self, value: Any) -> str:
        if len(value) > self.most:
            return _with_hint(f"holds {len(value)} entries; at most {self.most} are allowed.", self.hint)
        problems = map(self.each.problem, value) if self.each else ()
        return next((f"has an entry that {problem}" for problem in problems if problem), "")


@dataclass(frozen=True)
class Words:
    """A map from text to values of an enum."""

    most: int
    key: Text

    def problem(self, value: Any) -> str:
        if len(value) > self.most:
            return f"holds {len(value)} entries; at most {self.most} are allowed."
        return next((f"has a key that {problem}" for problem in map(self.key.problem, value) if problem), "")


@dataclass(frozen=True)
class Tree:
    """A google.protobuf.Struct of at most so many bytes, without infinite numbers, which JSON cannot say."""

    most: int

    def problem(self, value: Any) -> str:
        size = value.ByteSize()
        if size > self.most:
            return f"has {size} bytes; at most {self.most} are allowed."
        finite = all(math.isfinite(number) for number in _numbers(value))
        return "" if finite else "holds a number that is not finite."


class Moment:
    """A google.protobuf.Timestamp of the years 1 to 9999."""

    def problem(self, value: Any) -> str:
        if FIRST_SECOND <= value.seconds <= LAST_SECOND and 0 <= value.nanos < 10**9:
            return ""
        return "is not a time of the years 1 to 9999."


class Known:
    """A value of an enum that this version knows, or true and false; the type itself is the limit."""

    def problem(self, value: Any) -> str:
        return ""


_REFERENCE = Text(128)
_DIGEST = Text(64, "A digest has 64 hexadecimal digits.")
_DATA = Bytes(16 * MIB)

LIMITS: dict[str, Limit] = {
    "request_id": Text(128, "A UUID does."),
    "prompt": Text(1_000),
    "negative_prompt": Text(1_000),
    "version": _REFERENCE,
    "reward_version": _REFERENCE,
    "generator_version": _REFERENCE,
    "GenerateImagesRequest.count": Number(1, 64, "Use StreamImages for up to 10000, or several calls."),
    "StreamImagesRequest.count": Number(1, 10_000, "Split it into several streams."),
    "NextForReviewRequest.count": Number(1, 50),
    "seed": Number(0, MAX_SEED, "Leave it out for the default."),
    "steps": Number(1, 200, "Leave it out for the default."),
    "guidance": Number(0, 30, "Leave it out for the default."),
    "guidance_method": Known(),
    "guidance_start": Number(0, 1, "Leave it out for the default."),
    "guidance_stop": Number(0, 1, "Leave it out for the default."),
    "adapter_start": Number(0, 1, "Leave it out for the default."),
    "score": Known(),
    "GenerateImagesRequest.timeout_s": Number(0, 3_600, "Seconds.", above=True),
    "StreamImagesRequest.timeout_s": Number(0, 86_400, "Seconds.", above=True),
    "sampler": Text(32),
    "eta": Number(0, 1, "Leave it out for 0, no added noise."),
    "preview_every": Number(0, 200),
    "ScoreImagesRequest.items": Count(64, "Send several messages, or use ScoreStream."),
    "ScoreStreamRequest.items": Count(64, "Send several messages.", apart=True),
    "item_id": Text(512),
    "data": _DATA,
    "digest": _DIGEST,
    "image_digest": _DIGEST,
    "other_image_digest": _DIGEST,
    "preferred_digest": _DIGEST,
    "ratings": Count(500, "Send several messages.", apart=True),
    "images": Count(100, "Send several messages.", apart=True),
    "rating_id": Text(128),
    "rater": Text(128),
    "kind": Known(),
    "state": Known(),
    "verdict": Known(),
    "answers": Words(64, Text(64)),
    "text": Text(10_000),
    "duration_ms": Number(0, YEAR_MS, "Milliseconds."),
    "ui_version": Text(64),
    "created_at": Moment(),
    "supersedes": Text(128),
    "domain": Text(128),
    "label": Text(200),
    "include_superseded": Known(),
    "page_size": Number(0, 1_000, "0 is the default of 100."),
    "page_token": Text(512),
    "slot": Text(32),
    "rollout_id": Text(128),
    "run_id": Text(128),
    "percent": Number(1, 100),
    "StartRolloutRequest.steps": Count(100, each=Number(1, 100)),
    "hold_s": Number(0, 2_592_000, "Seconds."),
    "shadow": Known(),
    "sticky": Known(),
    "force": Known(),
    "dry_run": Known(),
    "at": Moment(),
    "head": _DIGEST,
    "reason": Text(1_000),
    "config": Tree(64 * 1024),
}

LARGEST_MESSAGE = 64 * MIB
"""Bytes that a server reads or sends as one message of any RPC: more is refused before it is read."""
LARGEST_REQUEST = {
    "ScoreImages": 32 * MIB,
    "ScoreStream": 24 * MIB,
    "ImportRealImages": 24 * MIB,
    "ImportRatings": 24 * MIB,
}
"""Bytes of one message of an RPC that carries images or many ratings."""
LARGEST_PLAIN_REQUEST = MIB
"""Bytes of a request of every other RPC."""


def largest_request(rpc: str) -> int:
    """Bytes that one message of this RPC may have."""
    return LARGEST_REQUEST.get(rpc, LARGEST_PLAIN_REQUEST)


def number(name: str) -> Number:
    """The limit of a field that is a number, as the table names it."""
    limit = LIMITS[name]
    assert isinstance(limit, Number)
    return limit


def limit_of(field: Any) -> Limit | None:
    """The limit of a field, by its descriptor; None where the table has none."""
    return LIMITS.get(f"{field.containing_type.name}.{field.name}") or LIMITS.get(field.name)


def check(message: Any, path: str = "") -> None:
    """Raises InvalidInput that names the first field out of its limits and what is allowed."""
    for field, value in message.ListFields():
        name = f"{path}{field.name}"
        limit = limit_of(field)
        problem = (limit.problem(value) if limit else "") or _unknown_word(field, value)
        if problem:
            raise InvalidInput(f"{name} {problem}", "FIELD_OUT_OF_RANGE")
        if field.message_type is None or not is_ours(field.message_type):
            continue
        if not isinstance(limit, Count):
            check(value, f"{name}.")
        elif not limit.apart:
            for position, entry in enumerate(value):
                check(entry, f"{name}[{position}].")


def is_ours(descriptor: Any) -> bool:
    """Whether a message is of the contract itself, and no map: the edge looks into it."""
    return descriptor.file.package == "vouch.v1" and not descriptor.GetOptions().map_entry


def _unknown_word(field: Any, value: Any) -> str:
    """What is wrong with the value of an enum; protobuf lets every number pass."""
    enum, numbers = field.enum_type, [value]
    if field.message_type is not None and field.message_type.GetOptions().map_entry:
        enum, numbers = field.message_type.fields_by_name["value"].enum_type, list(value.values())
    if enum is None:
        return ""
    strange = [number for number in numbers if number not in enum.values_by_number]
    return f"is {strange[0]}, which {enum.name} does not know." if strange else ""


def _numbers(value: Any) -> Iterator[float]:
    """Every number of a Struct, ListValue or Value."""
    for field, content in value.ListFields():
        if field.name == "number_value":
            yield content
        elif field.name == "fields":
            for entry in content.values():
                yield from _numbers(entry)
        elif field.name == "values":
            for entry in content:
                yield from _numbers(entry)
        elif field.message_type is not None:
            yield from _numbers(content)


def _shown(value: float) -> str:
    return "2^63-1" if value == MAX_SEED else f"{value:.15g}"


def _with_hint(problem: str, hint: str) -> str:
    return f"{problem} {hint}" if hint else problem
