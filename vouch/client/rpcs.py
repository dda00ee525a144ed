"""Every RPC of the contract by its name, unique over all services, and its request."""

from __future__ import annotations

import uuid
from typing import Any, cast

from google.protobuf import message_factory
from google.protobuf.descriptor import MethodDescriptor
from google.protobuf.message import Message

from vouch import wire
from vouch.pb.v1 import (
    feedback_pb2,
    generation_pb2,
    models_pb2,
    reward_pb2,
    rollout_pb2,
    training_pb2,
)

FILES = (generation_pb2, reward_pb2, feedback_pb2, models_pb2, rollout_pb2, training_pb2)

METHODS: dict[str, MethodDescriptor] = {
    method.name: method
    for file in FILES
    for service in file.DESCRIPTOR.services_by_name.values()
    for method in service.methods
}


def answer_class(rpc: str) -> type[Message]:
    """The message class of an RPC's answer."""
    return cast(type[Message], message_factory.GetMessageClass(METHODS[rpc].output_type))


def request_class(rpc: str) -> type[Message]:
    """The message class of an RPC's request."""
    return cast(type[Message], message_factory.GetMessageClass(METHODS[rpc].input_type))


def path(rpc: str) -> str:
    """The path of an RPC, such as "/vouch.v1.TrainingService/GetRun"."""
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
    message = request_class(rpc)()
    if (
        "request_id" in message.DESCRIPTOR.fields_by_name
        and not fields.get("request_id")
        and not rpc.startswith("List")
    ):
        # Created here, so that a retry sends the same request. In lists it is a filter.
        fields["request_id"] = uuid.uuid4().hex
    for name, value in fields.items():
        wire.fill(message, name, value)
    return message
