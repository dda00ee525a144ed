"""Every RPC of the contract by its name, which is unique over all services, and how its request is built."""

from __future__ import annotations

import dataclasses
import uuid
from collections.abc import AsyncIterable, AsyncIterator, Iterable, Iterator, Mapping
from typing import Any, cast

from google.protobuf import message_factory, struct_pb2
from google.protobuf.descriptor import FieldDescriptor, MethodDescriptor
from google.protobuf.message import Message

from vouch.client.convert import enum_number, from_rating, to_struct
from vouch.client.groups import agrouped, grouped
from vouch.client.values import RealImage, ScoreItem
from vouch.errors import InvalidInput
from vouch.pb.v1 import (
    feedback_pb2,
    generation_pb2,
    models_pb2,
    reward_pb2,
    rollout_pb2,
    training_pb2,
)
from vouch.types.records import NewRating

FILES = (generation_pb2, reward_pb2, feedback_pb2, models_pb2, rollout_pb2, training_pb2)

METHODS: dict[str, MethodDescriptor] = {
    method.name: method
    for file in FILES
    for service in file.DESCRIPTOR.services_by_name.values()
    for method in service.methods
}


def answer_class(rpc: str) -> type[Message]:
    """The message class that an RPC answers with."""
    return cast(type[Message], message_factory.GetMessageClass(METHODS[rpc].output_type))


def request_class(rpc: str) -> type[Message]:
    """The message class that an RPC takes."""
    return cast(type[Message], message_factory.GetMessageClass(METHODS[rpc].input_type))


def path(rpc: str) -> str:
    """Where an RPC is on the wire, such as "/vouch.v1.TrainingService/GetRun"."""
    return f"/{METHODS[rpc].containing_service.full_name}/{rpc}"


def arity(rpc: str) -> str:
    """ "unary_unary" and so on: the name of the channel's method that makes the call."""
    sides = (METHODS[rpc].client_streaming, METHODS[rpc].server_streaming)
    return "_".join("stream" if streams else "unary" for streams in sides)


def request(rpc: str, **fields: Any) -> Message:
    """The request of an RPC; None leaves a field out, a `request_id` left out is made here.

    Raises:
        InvalidInput: a value that its field cannot hold, such as a word that the enum does not know.
    """
    kind = request_class(rpc)
    known = kind.DESCRIPTOR.fields_by_name
    if "request_id" in known and not fields.get("request_id") and not rpc.startswith("List"):
        # Made on this side, so that a retry below this line is the same request. In lists it is a filter.
        fields["request_id"] = uuid.uuid4().hex
    message = kind()
    for name, value in fields.items():
        if value is not None:
            _set(message, known[name], value)
    return message


def _set(message: Message, one: FieldDescriptor, value: Any) -> None:
    try:
        if one.enum_type is not None and isinstance(value, str):
            value = enum_number(one.enum_type, value)
        elif one.message_type is struct_pb2.Struct.DESCRIPTOR:
            value = to_struct(value)
        if one.message_type is None:
            setattr(message, one.name, value)
        else:
            message.MergeFrom(type(message)(**{one.name: value}))
    except InvalidInput as error:
        raise InvalidInput(f"{one.name}: {error}") from None
    except (ValueError, TypeError) as error:
        raise InvalidInput(f"{one.name} cannot be {value!r:.100}: {error}.") from None


def score_item(item: ScoreItem) -> Any:
    """The message of an item to score."""
    fields = {key: value for key, value in _shallow(item).items() if value is not None}
    try:
        return reward_pb2.ScoreItem(**fields)
    except (ValueError, TypeError) as error:
        raise InvalidInput(f"The item {item.item_id!r} cannot be scored: {error}.") from None


def _shallow(value: Any) -> Mapping[str, Any]:
    return {one.name: getattr(value, one.name) for one in dataclasses.fields(value)}


def import_requests(ratings: Iterable[NewRating], batch: int) -> Iterator[Message]:
    """The messages of an import, up to `batch` ratings in each."""
    for group in grouped(ratings, from_rating, batch):
        yield feedback_pb2.ImportRatingsRequest(ratings=group)


async def aimport_requests(
    ratings: Iterable[NewRating] | AsyncIterable[NewRating], batch: int
) -> AsyncIterator[Message]:
    """`import_requests` for asyncio."""
    async for group in agrouped(ratings, from_rating, batch):
        yield feedback_pb2.ImportRatingsRequest(ratings=group)


def real_image(image: RealImage) -> Any:
    """The message of a real image."""
    try:
        return feedback_pb2.RealImage(data=image.data, prompt=image.prompt)
    except (ValueError, TypeError) as error:
        raise InvalidInput(f"The image of {image.prompt!r:.100} cannot be sent: {error}.") from None


def real_requests(images: Iterable[RealImage], batch: int) -> Iterator[Message]:
    """The messages of an import of real images, up to `batch` in each."""
    for group in grouped(images, real_image, batch):
        yield feedback_pb2.ImportRealImagesRequest(images=group)


async def areal_requests(
    images: Iterable[RealImage] | AsyncIterable[RealImage], batch: int
) -> AsyncIterator[Message]:
    """`real_requests` for asyncio."""
    async for group in agrouped(images, real_image, batch):
        yield feedback_pb2.ImportRealImagesRequest(images=group)
