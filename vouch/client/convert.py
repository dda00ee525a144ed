"""Messages to values and back. Protobuf stops here; nothing outside the client sees a message."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from datetime import datetime, timezone
from typing import Any, TypeVar, cast

from google.protobuf import struct_pb2, timestamp_pb2
from google.protobuf.descriptor import EnumDescriptor, FieldDescriptor
from google.protobuf.message import Message

from vouch.client import values
from vouch.errors import InvalidInput
from vouch.pb.v1 import feedback_pb2
from vouch.types.records import NewRating, Preference, Rating

Value = TypeVar("Value")
RATING = "vouch.v1.Rating"


def to_value(message: Message) -> Any:
    """The value class that has the message's name, filled from its fields."""
    if message.DESCRIPTOR.full_name == RATING:
        return to_rating(message)
    kind = getattr(values, message.DESCRIPTOR.name)
    return kind(**{one.name: _read(message, one) for one in message.DESCRIPTOR.fields})


def _read(message: Message, one: FieldDescriptor) -> Any:
    value = getattr(message, one.name)
    if one.message_type is not None and one.message_type.GetOptions().map_entry:
        return dict(value)
    if isinstance(value, Sequence) and not isinstance(value, (str, bytes)):
        return tuple(_reader(one)(item) for item in value)
    if one.has_presence and not message.HasField(one.name):
        return {} if one.message_type is struct_pb2.Struct.DESCRIPTOR else None
    return _reader(one)(value)


def _reader(one: FieldDescriptor) -> Callable[[Any], Any]:
    if one.enum_type is not None:
        return lambda number: enum_word(one.enum_type, number)
    if one.message_type is None:
        return lambda plain: plain
    return {
        "google.protobuf.Timestamp": to_datetime,
        "google.protobuf.Struct": to_dict,
    }.get(one.message_type.full_name, to_value)


def to_datetime(stamp: timestamp_pb2.Timestamp) -> datetime:
    return cast(datetime, stamp.ToDatetime(tzinfo=timezone.utc))


def to_dict(struct: struct_pb2.Struct) -> dict[str, Any]:
    """A struct as plain Python. It knows no whole numbers, so 5.0 comes back as 5."""
    return {key: _plain(value) for key, value in struct.fields.items()}


def _plain(value: struct_pb2.Value) -> Any:
    kind = value.WhichOneof("kind")
    if kind == "struct_value":
        return to_dict(value.struct_value)
    if kind == "list_value":
        return [_plain(item) for item in value.list_value.values]
    if kind == "number_value":
        number = value.number_value
        return int(number) if number.is_integer() else number
    return None if kind in (None, "null_value") else getattr(value, kind)


def to_struct(mapping: Mapping[str, Any]) -> struct_pb2.Struct:
    """Raises `InvalidInput` for what JSON has no word for."""
    struct = struct_pb2.Struct()
    try:
        struct.update(mapping)
    except (ValueError, TypeError) as error:
        raise InvalidInput(f"Settings hold text, numbers, booleans, lists and maps only: {error}.") from None
    return struct


def enum_word(enum: EnumDescriptor, number: int) -> str:
    """RATING_KIND_HUMAN → "human"; states stay in capitals, RUN_STATE_QUEUED → "QUEUED"; not said → ""."""
    known = enum.values_by_number.get(number)
    if known is None or number == 0:
        return ""
    word = cast(str, known.name)[len(_prefix(enum)) :]
    return word if enum.name.endswith("State") else word.lower()


def enum_number(enum: EnumDescriptor, word: str) -> Any:  # a number; the stubs want their own enum types
    """The reverse of `enum_word`. Raises `InvalidInput` naming the words that there are."""
    if not word:
        return 0
    known = enum.values_by_name.get(_prefix(enum) + word.upper())
    if known is None or known.number == 0:
        words = ", ".join(enum_word(enum, value.number) for value in enum.values if value.number)
        raise InvalidInput(f"{word!r} is not one of: {words}.")
    return known.number


def _prefix(enum: EnumDescriptor) -> str:
    return cast(str, enum.values_by_number[0].name).removesuffix("UNSPECIFIED")


def to_rating(message: Any) -> Rating:
    """Ratings are records: what is exported, imported and learned from is what was recorded."""
    preference = message.preference
    return Rating(
        id=message.rating_id,
        request_id=message.request_id,
        image=message.image_digest,
        rater=message.rater,
        **_words_of(message),
        preference=Preference(other=preference.other_image_digest, preferred=preference.preferred_digest)
        if message.HasField("preference")
        else None,
        text=message.text,
        duration_ms=message.duration_ms,
        ui_version=message.ui_version,
        supersedes=message.supersedes,
        domain=message.domain,
        generator_version=message.generator_version,
        created_at=to_datetime(message.created_at),
    )


def _words_of(message: Any) -> dict[str, Any]:
    fields = message.DESCRIPTOR.fields_by_name
    answers = fields["answers"].message_type.fields_by_name["value"].enum_type
    return {
        "kind": enum_word(fields["kind"].enum_type, message.kind),
        "verdict": enum_word(fields["verdict"].enum_type, message.verdict),
        "answers": {key: enum_word(answers, number) for key, number in message.answers.items()},
    }


def from_rating(rating: NewRating) -> Any:
    """The message of a rating, with its id and time when it has been recorded before.

    Raises:
        InvalidInput: a word that there is not, or a value that its field cannot hold.
    """
    try:
        return _from_rating(rating)
    except (ValueError, TypeError) as error:
        raise InvalidInput(f"The rating {rating.request_id!r} cannot be sent: {error}.") from None


def _from_rating(rating: NewRating) -> Any:
    message = feedback_pb2.Rating(
        request_id=rating.request_id,
        image_digest=rating.image,
        rater=rating.rater,
        kind=enum_number(feedback_pb2.RatingKind.DESCRIPTOR, rating.kind),
        verdict=enum_number(feedback_pb2.Verdict.DESCRIPTOR, rating.verdict),
        answers={
            key: enum_number(feedback_pb2.Answer.DESCRIPTOR, word) for key, word in rating.answers.items()
        },
        text=rating.text,
        duration_ms=rating.duration_ms,
        ui_version=rating.ui_version,
        supersedes=rating.supersedes,
    )
    if rating.preference is not None:
        message.preference.other_image_digest = rating.preference.other
        message.preference.preferred_digest = rating.preference.preferred
    if isinstance(rating, Rating):
        message.rating_id = rating.id
        message.domain = rating.domain
        message.generator_version = rating.generator_version
        message.created_at.FromDatetime(rating.created_at)
    return message
