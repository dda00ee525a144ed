"""The one codec between the values of `vouch.types` and the messages of the contract, for clients and services.

The descriptors of protobuf drive it. A field of a value goes to the field of its message that has the same name; a
field that only one of the two has is left out. Enums are words ("human", "pass"; states in capitals, "ACTIVE"; "" is
not said), times are aware datetimes in UTC, maps and structs are dicts, lists are tuples, and an optional field that is
absent is None or the value's own default.
"""

from __future__ import annotations

import dataclasses
import functools
import inspect
from collections.abc import Callable, Mapping
from datetime import datetime, timezone
from typing import Any, TypeVar, cast, overload

from google.protobuf import message_factory, struct_pb2, timestamp_pb2
from google.protobuf.descriptor import Descriptor, EnumDescriptor, FieldDescriptor
from google.protobuf.message import Message

from vouch.errors import InvalidInput
from vouch.types import (
    account,
    audit,
    generation,
    generator,
    image,
    rating,
    review,
    rollout,
    run,
    score,
    serving,
    token,
    version,
)

M = TypeVar("M", bound=Message)
V = TypeVar("V")
Read = Callable[[Any], Any]
Write = Callable[[Message, Any], None]

_MODULES = (
    account,
    audit,
    generation,
    generator,
    image,
    rating,
    review,
    rollout,
    run,
    score,
    serving,
    token,
    version,
)
_OTHER_NOUNS: dict[str, type] = {
    "Criterion": review.ReviewQuestion,
    "DescribeGeneratorResponse": generator.GeneratorDescription,
    "Version": version.VersionDetails,
}
"""Messages whose value has a name of its own; that of every other message has the message's name."""
OTHER_NAMES: dict[str, dict[str, str]] = {
    "Rating": {"rating_id": "id", "image_digest": "image"},
    "Preference": {"other_image_digest": "other", "preferred_digest": "preferred"},
}
"""Fields that a value calls otherwise, by message."""

VALUES: dict[str, type] = {
    name: kind
    for module in _MODULES
    for name, kind in inspect.getmembers(module, inspect.isclass)
    if kind.__module__ == module.__name__
} | _OTHER_NOUNS
"""The value class of each message, by the message's name."""


# ---- messages to values


@overload
def to_value(message: Message, /) -> Any: ...
@overload
def to_value(message: Message, kind: type[V], /, **more: Any) -> V: ...
def to_value(message: Message, kind: type | None = None, /, **more: Any) -> Any:
    """The value of a message. kind: its class, where that is not the one of the message's name. more: fields of the
    value that the message does not have, or has otherwise."""
    kind = kind or VALUES[message.DESCRIPTOR.name]
    fields: dict[str, Any] = {}
    for name, attribute, absent, read in _readers(message.DESCRIPTOR, kind):
        if absent is _ALWAYS or message.HasField(name):
            value = getattr(message, name)
            fields[attribute] = value if read is None else read(value)
        elif absent is not _DEFAULT:
            fields[attribute] = absent
    return kind(**{**fields, **more})


def word(message: Message, field: str) -> Any:  # a str; callers want one of the words of their own Literal
    """The word of an enum field; "" where nothing is said."""
    return enum_word(message.DESCRIPTOR.fields_by_name[field].enum_type, getattr(message, field))


def optional(message: Message, field: str) -> Any:
    """The value of an optional field; None where it is absent."""
    return getattr(message, field) if message.HasField(field) else None


_ALWAYS, _DEFAULT = object(), object()
"""Of a field without presence, and of an absent one whose value class has a default."""


@functools.cache
def _readers(message: Descriptor, kind: type) -> tuple[tuple[str, str, Any, Read | None], ...]:
    """Field, attribute, what stands for an absent field, and how to read one that is there (None: as it is)."""
    known = {one.name: one for one in dataclasses.fields(kind)}
    readers = []
    for one in message.fields:
        attribute = _attribute(one)
        if attribute not in known:
            continue
        absent = _ALWAYS
        if one.message_type is not None and one.has_presence:
            absent = {} if one.message_type is struct_pb2.Struct.DESCRIPTOR else None
        elif one.has_presence:
            absent = None if known[attribute].default is dataclasses.MISSING else _DEFAULT
        readers.append((one.name, attribute, absent, _reader(one)))
    return tuple(readers)


def _attribute(one: FieldDescriptor) -> str:
    return OTHER_NAMES.get(one.containing_type.name, {}).get(one.name, one.name)


def _reader(one: FieldDescriptor) -> Read | None:
    if _is_map(one):
        value = one.message_type.fields_by_name["value"]
        if value.enum_type is None:
            return dict
        return lambda entries: {key: enum_word(value.enum_type, number) for key, number in entries.items()}
    item = _item_reader(one)
    if not _is_repeated(one):
        return item
    return tuple if item is None else lambda items: tuple(map(item, items))


def _item_reader(one: FieldDescriptor) -> Read | None:
    if one.enum_type is not None:
        return functools.partial(enum_word, one.enum_type)
    if one.message_type is None:
        return None
    return _WELL_KNOWN.get(one.message_type.full_name, to_value)


def _to_datetime(stamp: Any) -> datetime:
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


_WELL_KNOWN: dict[str, Read] = {"google.protobuf.Timestamp": _to_datetime, "google.protobuf.Struct": to_dict}


# ---- values to messages


def to_message(value: Any, kind: type[M]) -> M:
    """The message of class `kind` with what the value holds; None leaves a field out.

    Raises:
        InvalidInput: a value that its field cannot hold, such as a word that the enum does not know.
    """
    message, held = kind(), cast(Any, type(value))
    for name, attribute in _shared(kind.DESCRIPTOR, held):
        fill(message, name, getattr(value, attribute))
    return message


def to_event(value: Any, kind: type[M]) -> M:
    """The message of class `kind` whose one-of holds the value: in the field of the value's message."""
    message = kind()
    name = _event_fields(kind.DESCRIPTOR)[type(value)]
    fill(message, name, value)
    return message


@functools.cache
def _event_fields(message: Descriptor) -> dict[type, str]:
    (oneof,) = message.oneofs
    return {VALUES[one.message_type.name]: one.name for one in oneof.fields}


def fill(message: Message, name: str, value: Any) -> None:
    """Set one field of a message. None leaves it out.

    Raises:
        InvalidInput: names the field, and says why it cannot hold the value.
    """
    if value is None:
        return
    try:
        _writer(message.DESCRIPTOR, name)(message, value)
    except InvalidInput as error:
        raise InvalidInput(f"{name}: {error}") from None
    except (ValueError, TypeError, AttributeError) as error:
        raise InvalidInput(f"{name} cannot be {value!r:.100}: {error}.") from None


@functools.cache
def _shared(message: Descriptor, kind: Any) -> tuple[tuple[str, str], ...]:
    """The fields of the message that the value has too, with its names of them."""
    pairs = [(one.name, _attribute(one)) for one in message.fields]
    own = {one.name for one in dataclasses.fields(kind)} if dataclasses.is_dataclass(kind) else set()
    return tuple(
        (name, attribute) for name, attribute in pairs if attribute in own or hasattr(kind, attribute)
    )


@functools.cache
def _writer(message: Descriptor, name: str) -> Write:
    one = message.fields_by_name[name]
    if _is_map(one):
        return _map_writer(one)
    convert = _item_writer(one)
    if _is_repeated(one):
        return lambda target, items: getattr(target, name).extend(map(convert, items) if convert else items)
    if one.message_type is None:
        return lambda target, value: setattr(target, name, convert(value) if convert else value)
    assert convert is not None
    return lambda target, value: getattr(target, name).CopyFrom(convert(value))


def _map_writer(one: FieldDescriptor) -> Write:
    enum, name = one.message_type.fields_by_name["value"].enum_type, one.name

    def write(target: Message, entries: Mapping[str, Any]) -> None:
        plain = {key: enum_number(enum, text) for key, text in entries.items()} if enum else entries
        getattr(target, name).update(plain)

    return write


def _item_writer(one: FieldDescriptor) -> Read | None:
    """How one value becomes what the field takes; None: as it is."""
    if one.enum_type is not None:
        return lambda text: enum_number(one.enum_type, text) if isinstance(text, str) else text
    if one.message_type is None:
        return None
    kind = cast(type[Message], message_factory.GetMessageClass(one.message_type))
    well_known: dict[str, Read] = {
        "google.protobuf.Timestamp": _to_timestamp,
        "google.protobuf.Struct": to_struct,
    }
    make = well_known.get(one.message_type.full_name, functools.partial(to_message, kind=kind))
    return lambda value: value if isinstance(value, Message) else make(value)


def _to_timestamp(moment: datetime) -> timestamp_pb2.Timestamp:
    stamp = timestamp_pb2.Timestamp()
    stamp.FromDatetime(moment)
    return stamp


def to_struct(mapping: Mapping[str, Any]) -> struct_pb2.Struct:
    """Raises `InvalidInput` for what JSON has no word for."""
    struct = struct_pb2.Struct()
    try:
        struct.update(mapping)
    except (ValueError, TypeError) as error:
        raise InvalidInput(f"Settings hold text, numbers, booleans, lists and maps only: {error}.") from None
    return struct


# ---- enums and fields


def enum_word(enum: EnumDescriptor, number: int) -> str:
    """RATING_KIND_HUMAN → "human"; states stay in capitals, RUN_STATE_QUEUED → "QUEUED"; not said → ""."""
    return _words(enum).get(number, "")


def enum_number(enum: EnumDescriptor, text: str) -> Any:  # a number; the stubs want their own enum types
    """The reverse of `enum_word`. Raises `InvalidInput` naming the words that there are."""
    if not text:
        return 0
    known = enum.values_by_name.get(_prefix(enum) + text.upper())
    if known is None or known.number == 0:
        raise InvalidInput(f"{text!r} is not one of: {', '.join(_words(enum).values())}.")
    return known.number


@functools.cache
def _words(enum: EnumDescriptor) -> dict[int, str]:
    names = {one.number: cast(str, one.name)[len(_prefix(enum)) :] for one in enum.values if one.number}
    return names if enum.name.endswith("State") else {number: name.lower() for number, name in names.items()}


def _prefix(enum: EnumDescriptor) -> str:
    return cast(str, enum.values_by_number[0].name).removesuffix("UNSPECIFIED")


def _is_map(one: FieldDescriptor) -> bool:
    return one.message_type is not None and one.message_type.GetOptions().map_entry


def _is_repeated(one: FieldDescriptor) -> bool:
    # Protobuf 7 has no `label`, and 5 no `is_repeated`.
    return bool(one.is_repeated if hasattr(one, "is_repeated") else one.label == one.LABEL_REPEATED)
