"""Every RPC has a method in the gateway, in both clients and a role; every answer has a value class."""

from __future__ import annotations

import dataclasses
import inspect
import re

import pytest
from google.protobuf.descriptor import Descriptor

from vouch import wire
from vouch.client import AsyncClient, Client, rpcs
from vouch.pb.v1 import feedback_pb2
from vouch.rpcs import RPCS, Rpc
from vouch.types.rating import Rating
from vouch.types.token import ROLES

# Answers that the client opens: it returns what is inside.
OPENED = {
    "ScoreImagesResponse", "ScoreStreamResponse", "StreamImagesResponse", "NextForReviewResponse", "GetLineageResponse",
    *(f"{name}Response" for name in rpcs.METHODS if name.startswith("List")),
}  # fmt: skip

NOT_IN_VALUES = {"prompt"}
"""Of a rating: its image's record has it."""


def snake(name: str) -> str:
    return re.sub(r"(?<!^)(?=[A-Z])", "_", name).lower()


@pytest.mark.parametrize("rpc", rpcs.METHODS)
def test_both_clients_have_a_method_for_every_rpc_with_the_same_arguments(rpc: str) -> None:
    sync, aio = (getattr(kind, snake(rpc)) for kind in (Client, AsyncClient))
    assert sync.__doc__
    assert list(inspect.signature(sync).parameters) == list(inspect.signature(aio).parameters)


@pytest.mark.parametrize("kind", [Client, AsyncClient])
def test_a_client_has_no_method_that_is_not_an_rpc(kind: type) -> None:
    public = {name for name, _ in inspect.getmembers(kind, inspect.isfunction) if not name.startswith("_")}
    assert public == {snake(rpc) for rpc in rpcs.METHODS} | {"close"}


@pytest.mark.parametrize("rpc", rpcs.METHODS)
def test_the_arguments_of_a_client_method_are_the_fields_of_its_request(rpc: str) -> None:
    if rpcs.METHODS[rpc].client_streaming or rpc == "RecordRating":
        return  # these take values, see test_calls
    arguments = set(inspect.signature(getattr(Client, snake(rpc))).parameters) - {"self", "limit"}
    fields = set(rpcs.request_class(rpc).DESCRIPTOR.fields_by_name) - {"page_size", "page_token"}
    assert arguments == fields


@pytest.mark.parametrize("rpc", rpcs.METHODS)
def test_the_gateway_serves_every_rpc_as_ray_serve_calls_it(rpc: str) -> None:
    from services.gateway.app import Gateway

    method = getattr(Gateway, rpc)
    assert list(inspect.signature(method).parameters) == ["self", "request", "grpc_context"]
    streams = rpcs.METHODS[rpc].server_streaming
    assert inspect.isasyncgenfunction(method) is streams
    assert inspect.iscoroutinefunction(method) is not streams


def test_every_rpc_needs_a_role_that_there_is() -> None:
    assert set(RPCS) == set(rpcs.METHODS)
    assert {rpc.role for rpc in RPCS.values()} == set(ROLES)


@pytest.mark.parametrize(
    "rpc", [rpc for rpc in RPCS.values() if rpc.deployment != "gateway"], ids=lambda rpc: rpc.name
)
def test_the_deployment_of_the_table_has_a_method_of_the_rpcs_name(rpc: Rpc) -> None:
    from services.account.app import AccountService
    from services.feedback.app import Feedback
    from services.jobs.app import TrainingService
    from services.operations.app import Operations
    from services.rollout.app import RolloutService
    from services.versions.app import ModelsService

    deployment = {"feedback": Feedback, "operations": Operations}[rpc.deployment]
    streams = rpcs.METHODS[rpc.name].server_streaming
    assert inspect.isasyncgenfunction(getattr(deployment, rpc.name)) is streams
    handlers = (
        [Feedback]
        if deployment is Feedback
        else [ModelsService, RolloutService, AccountService, TrainingService]
    )
    (handler,) = [getattr(kind, rpc.name) for kind in handlers if hasattr(kind, rpc.name)]
    hints = inspect.signature(handler).parameters
    assert list(hints) == ["self", "request", "caller"]
    assert hints["request"].annotation == f"pb.{rpcs.request_class(rpc.name).DESCRIPTOR.name}"


def answered() -> list[Descriptor]:
    """Every message that a value class must mirror, found from the answers downwards."""
    found: dict[str, Descriptor] = {}
    waiting = [rpcs.METHODS[name].output_type for name in rpcs.METHODS]
    while waiting:
        message = waiting.pop()
        if message.full_name in found or not message.full_name.startswith("vouch.v1."):
            continue
        found[message.full_name] = message
        waiting += [one.message_type for one in message.fields if one.message_type is not None]
    return [m for m in found.values() if m.name not in OPENED and not m.GetOptions().map_entry]


@pytest.mark.parametrize("message", answered(), ids=lambda message: message.name)
def test_a_value_class_has_the_fields_of_its_message(message: Descriptor) -> None:
    renamed = wire.OTHER_NAMES.get(message.name, {})
    fields = {one.name for one in dataclasses.fields(wire.VALUES[message.name])}
    assert {renamed.get(one.name, one.name) for one in message.fields} - fields <= NOT_IN_VALUES


@pytest.mark.parametrize("message", answered(), ids=lambda message: message.name)
def test_an_empty_message_becomes_a_value(message: Descriptor) -> None:
    from google.protobuf import message_factory

    value = wire.to_value(message_factory.GetMessageClass(message)())
    assert type(value) is wire.VALUES[message.name]


def test_a_rating_is_the_same_after_the_way_there_and_back(rating: Rating) -> None:
    assert wire.to_value(wire.to_message(rating, feedback_pb2.Rating)) == rating


def test_a_rating_message_has_a_field_for_everything_in_the_record() -> None:
    renamed = {name: field for field, name in wire.OTHER_NAMES["Rating"].items()}
    fields = set(feedback_pb2.Rating.DESCRIPTOR.fields_by_name)
    assert {renamed.get(one.name, one.name) for one in dataclasses.fields(Rating)} == fields - NOT_IN_VALUES


@pytest.fixture
def rating() -> Rating:
    from vouch.types.clock import now
    from vouch.types.rating import Preference

    return Rating(
        request_id="r-1", image="a" * 64, rater="rater-7", kind="simulated", verdict="implausible",
        answers={"nucleus_shape": "fail", "cell_size": "unsure", "chromatin": "pass"},
        preference=Preference(other="b" * 64, preferred="b" * 64), text="zwei Kerne — µ", duration_ms=4200,
        ui_version="cli-0.1.0", supersedes="rating-1", id="rating-2", domain="blood_cells", generator_version="c" * 64,
        created_at=now(),
    )  # fmt: skip
