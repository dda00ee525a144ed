"""Every field of every request has a limit; beyond it, the call is refused by the field's name."""

from __future__ import annotations

import asyncio
import re
import threading
from collections.abc import AsyncIterator, Iterator
from typing import Any

import grpc
import pytest
from google.protobuf.descriptor import Descriptor, FieldDescriptor
from google.protobuf.message import Message

from services import edge, ingress
from services import field_limits as limits
from services.field_limits import Bytes, Count, Moment, Number, Text, Tree, Words
from tests.keys import FixedKeys
from vouch.client import groups, rpcs
from vouch.errors import InvalidInput
from vouch.rpcs import RPCS

TOKENS = {"client": "c-token", "rater": "r-token", "operator": "o-token"}
OPERATOR = [("authorization", "Bearer o-token")]
UNKNOWN = 9_999  # no enum has so many values
UNLIMITED = ("bool", "enum")  # the type itself says what is allowed; an unknown value of an enum is refused


# ---- a server that does nothing but what the edge does


def _answering(rpc: str) -> Any:
    answer = rpcs.answer_class(rpc)
    takes_stream = rpcs.METHODS[rpc].client_streaming

    async def read(request: Any) -> None:
        if takes_stream:
            async for _ in request:
                pass

    async def unary(self: Any, request: Any, identity: edge.Identity) -> Any:
        await read(request)
        return answer()

    async def streaming(self: Any, request: Any, identity: edge.Identity) -> AsyncIterator[Any]:
        await read(request)
        yield answer()

    wrap, method = (edge.streaming, streaming) if rpcs.METHODS[rpc].server_streaming else (edge.unary, unary)
    method.__name__ = rpc
    return wrap(method)  # type: ignore[operator]


Willing = type(
    "Willing",
    (),
    {"access": edge.AccessControl(FixedKeys(TOKENS)), **{rpc: _answering(rpc) for rpc in rpcs.METHODS}},
)


@pytest.fixture(scope="module")
def channel() -> Iterator[grpc.Channel]:
    """To a real server, with the services as they are registered on Ray Serve's."""
    loop, ready, ports = asyncio.new_event_loop(), threading.Event(), []

    async def serve() -> None:
        server = grpc.aio.server(options=[("grpc.max_receive_message_length", limits.LARGEST_MESSAGE)])
        ingress.add_services(Willing(), server)
        ports.append(server.add_insecure_port("127.0.0.1:0"))
        await server.start()
        ready.set()
        await ended.wait()
        await server.stop(None)

    ended = asyncio.Event()
    ingress.guard_with(edge.AccessControl(FixedKeys(TOKENS)))
    thread = threading.Thread(target=loop.run_until_complete, args=(serve(),))
    thread.start()
    assert ready.wait(20)
    with grpc.insecure_channel(f"127.0.0.1:{ports[0]}") as channel:
        yield channel
    loop.call_soon_threadsafe(ended.set)
    thread.join(20)
    loop.close()


def status(
    channel: grpc.Channel, rpc: str, data: bytes, metadata: list[tuple[str, str]] = OPERATOR
) -> tuple[grpc.StatusCode, str]:
    """What a call with these bytes as its message ends with."""
    call = getattr(channel, rpcs.arity(rpc))(rpcs.path(rpc))
    takes_stream, gives_stream = rpcs.arity(rpc).split("_")
    try:
        answer = call(iter([data]) if takes_stream == "stream" else data, metadata=metadata, timeout=20)
        if gives_stream == "stream":
            list(answer)
    except grpc.RpcError as error:
        return error.code(), error.details() or ""
    return grpc.StatusCode.OK, ""


# ---- every field of every request


def fields_of(
    kind: Descriptor, path: tuple[FieldDescriptor, ...] = ()
) -> Iterator[tuple[FieldDescriptor, ...]]:
    """Every field of a message, and of the messages in it, as the way to it."""
    for field in kind.fields:
        yield (*path, field)
        if field.message_type is not None and limits.is_ours(field.message_type):
            yield from fields_of(field.message_type, (*path, field))


PLACES = [(rpc, way) for rpc in rpcs.METHODS for way in fields_of(rpcs.request_class(rpc).DESCRIPTOR)]


def named(way: tuple[FieldDescriptor, ...]) -> str:
    return ".".join(field.name for field in way)


def is_list(field: FieldDescriptor) -> bool:
    return isinstance(limits.limit_of(field), Count)


def beyond(field: FieldDescriptor) -> list[Any]:
    """Values that are just out of a field's limit."""
    limit = limits.limit_of(field)
    if isinstance(limit, Text):
        return ["é" * (limit.most + 1), "a\0b"]
    if isinstance(limit, Bytes):
        return [bytes(limit.most + 1)]
    if isinstance(limit, Number):
        return _out_of_range(field, limit)
    if isinstance(limit, Tree):
        return [{"a": "x" * limit.most}, {"a": [{"b": float("inf")}]}]
    if isinstance(limit, Words):
        return [{"x" * (limit.key.most + 1): 1}, {str(i): 1 for i in range(limit.most + 1)}, {"a": UNKNOWN}]
    if isinstance(limit, Moment):
        return [{"seconds": limits.LAST_SECOND + 1}, {"nanos": -1}]
    return [UNKNOWN] if field.enum_type is not None else []


def _lists_beyond(field: FieldDescriptor) -> list[Any]:
    """Too many entries, and one entry that is just out of its own limit."""
    limit = limits.limit_of(field)
    assert isinstance(limit, Count)
    too_many = [1 if field.message_type is None else {}] * (limit.most + 1)
    odd = _out_of_range(field, limit.each) if isinstance(limit.each, Number) else []
    return [too_many, *([entry] for entry in odd)]


def _out_of_range(field: FieldDescriptor, limit: Number) -> list[float]:
    if field.cpp_type in (field.CPPTYPE_DOUBLE, field.CPPTYPE_FLOAT):
        return [limit.low if limit.above else limit.low - 1, limit.high + 1, float("nan"), float("inf")]
    largest = 2**63 - 1 if field.cpp_type == field.CPPTYPE_INT64 else 2**31 - 1
    return [int(limit.low) - 1, *([int(limit.high) + 1] if limit.high < largest else [])]


def message(kind: type[Message], way: tuple[FieldDescriptor, ...], value: Any) -> Message:
    """A message that has this value at the end of the way, and nothing else."""
    filled: Any = value
    for field in reversed(way):
        filled = {field.name: [filled] if is_list(field) and field is not way[-1] else filled}
    return kind(**filled)


@pytest.mark.parametrize(
    ("rpc", "way"), PLACES, ids=lambda part: part if isinstance(part, str) else named(part)
)
def test_every_field_that_a_caller_may_fill_has_a_limit(rpc: str, way: tuple[FieldDescriptor, ...]) -> None:
    field = way[-1]
    nested = field.message_type is not None and limits.is_ours(field.message_type)
    if not nested or field.is_repeated:
        limit = limits.limit_of(field)
        assert limit is not None, f"add {field.full_name} to services/field_limits.py"
        if isinstance(limit, Count) and not nested:
            assert isinstance(limit.each, Number), f"say what each entry of {field.full_name} must hold"


@pytest.mark.parametrize("rpc", rpcs.METHODS)
def test_a_value_out_of_its_limit_is_refused_by_the_name_of_its_field(
    channel: grpc.Channel, rpc: str
) -> None:
    kind = rpcs.request_class(rpc)
    for way in fields_of(kind.DESCRIPTOR):
        if any(is_list(field) and limits.limit_of(field).apart for field in way[:-1]):  # type: ignore[union-attr]
            continue  # an outcome of its own: the next test
        values = _lists_beyond(way[-1]) if is_list(way[-1]) else beyond(way[-1])
        for value in values:
            code, details = status(channel, rpc, message(kind, way, value).SerializeToString())
            assert code is grpc.StatusCode.INVALID_ARGUMENT, (named(way), value)
            assert details.startswith(re.sub(r"\.", "[0].", named(way)) if is_list(way[0]) else named(way))


@pytest.mark.parametrize(
    "way",
    [
        pytest.param(way, id=f"{rpc}.{named(way)}")
        for rpc, way in PLACES
        if len(way) > 1 and is_list(way[0]) and limits.limit_of(way[0]).apart  # type: ignore[union-attr]
    ],
)
def test_an_entry_with_an_outcome_of_its_own_is_refused_alone(way: tuple[FieldDescriptor, ...]) -> None:
    kind = rpcs.request_class(next(rpc for rpc, known in PLACES if known == way))
    for value in beyond(way[-1]):
        filled = message(kind, way, value)
        limits.check(filled)  # the others of its message are not touched
        with pytest.raises(InvalidInput, match=f"^{re.escape(named(way[1:]))} "):
            limits.check(getattr(filled, way[0].name)[0])


@pytest.mark.parametrize("rpc", rpcs.METHODS)
def test_the_largest_value_of_every_field_is_taken(channel: grpc.Channel, rpc: str) -> None:
    kind = rpcs.request_class(rpc)
    for way in fields_of(kind.DESCRIPTOR):
        limit = limits.limit_of(way[-1])
        values: list[Any] = []
        if isinstance(limit, Text):
            values = ["é" * limit.most]
        elif isinstance(limit, Number):
            values = [limit.high if way[-1].cpp_type == way[-1].CPPTYPE_DOUBLE else int(limit.high)]
        for value in values:
            code, details = status(channel, rpc, message(kind, way, value).SerializeToString())
            assert code is grpc.StatusCode.OK, (named(way), details)


def test_no_limit_is_left_over_of_a_field_that_is_gone() -> None:
    used = {f"{way[-1].containing_type.name}.{way[-1].name}" for _, way in PLACES}
    used |= {way[-1].name for _, way in PLACES}
    assert set(limits.LIMITS) <= used


def test_the_contract_states_every_limit(files: list[Any]) -> None:
    comments = {
        f"{file.message_type[place.path[1]].name}.{file.message_type[place.path[1]].field[place.path[3]].name}":
        " ".join(place.leading_comments.split())
        for file in files
        for place in file.source_code_info.location
        if len(place.path) == 4 and place.path[0] == 4 and place.path[2] == 2
    }  # fmt: skip
    for _, way in PLACES:
        field, limit = way[-1], limits.limit_of(way[-1])
        number = getattr(limit, "high", None) or getattr(limit, "most", None)
        if number is None:
            continue
        known = {limits.MAX_SEED: "2^63-1", 16 * limits.MIB: "16 MiB", 64 * 1024: "64 KiB"}
        shown = known.get(number, f"{int(number):,}")
        comment = comments[f"{field.containing_type.name}.{field.name}"]
        assert re.search(rf"(?<![\d,]){re.escape(shown)}(?!\d|,\d)", comment), (field.full_name, shown)


# ---- before and beside the fields


@pytest.mark.parametrize("rpc", ["ScoreStream", "ImportRealImages"])
def test_what_the_client_puts_into_one_message_is_small_enough(rpc: str) -> None:
    """A group ends with the item that makes it large enough, which may be as large as an item can be."""
    item = len(message(rpcs.request_class("ScoreStream"), way_to_prompt(), "é" * 1_000).SerializeToString())
    assert groups.GROUP_BYTES + 16 * limits.MIB + 64 * 2 * item < limits.largest_request(rpc)


def way_to_prompt() -> tuple[FieldDescriptor, ...]:
    return next(way for rpc, way in PLACES if rpc == "ScoreStream" and named(way) == "items.prompt")


def test_training_is_not_started_under_a_name_of_a_megabyte(channel: grpc.Channel) -> None:
    request = rpcs.request_class("StartTraining")(
        request_id="x" * (limits.LARGEST_PLAIN_REQUEST - 100), kind=2
    )
    code, details = status(channel, "StartTraining", request.SerializeToString())
    assert code is grpc.StatusCode.INVALID_ARGUMENT
    assert details.startswith("request_id has 1048476 characters; at most 128 are allowed.")


@pytest.mark.parametrize("rpc", rpcs.METHODS)
@pytest.mark.parametrize("data", [b"\xff\xff\xff", b"\x0a\x80\x80\x80\x80\x08", b"\x07"])
def test_what_is_no_protobuf_is_an_invalid_argument(channel: grpc.Channel, rpc: str, data: bytes) -> None:
    code, details = status(channel, rpc, data)
    assert code is grpc.StatusCode.INVALID_ARGUMENT
    assert rpcs.request_class(rpc).DESCRIPTOR.full_name in details


@pytest.mark.parametrize("rpc", rpcs.METHODS)
def test_a_message_larger_than_its_rpc_may_have_is_refused_with_the_limit(
    channel: grpc.Channel, rpc: str
) -> None:
    most = limits.largest_request(rpc)
    code, details = status(channel, rpc, bytes(most + 1))
    assert code is grpc.StatusCode.INVALID_ARGUMENT
    assert f"{rpc} takes at most {most // limits.MIB} MiB" in details


@pytest.mark.parametrize("rpc", rpcs.METHODS)
@pytest.mark.parametrize(
    ("metadata", "code"),
    [
        ([], grpc.StatusCode.UNAUTHENTICATED),
        ([("authorization", "Bearer wrong")], grpc.StatusCode.UNAUTHENTICATED),
        ([("authorization", "Bearer c-token")], grpc.StatusCode.PERMISSION_DENIED),
    ],
)
def test_the_token_is_looked_at_before_the_message(
    channel: grpc.Channel, rpc: str, metadata: list[tuple[str, str]], code: grpc.StatusCode
) -> None:
    if code is grpc.StatusCode.PERMISSION_DENIED and RPCS[rpc].role == "client":
        return
    assert status(channel, rpc, b"\xff\xff\xff", metadata)[0] is code


@pytest.mark.parametrize("rpc", rpcs.METHODS)
def test_a_message_without_a_token_is_not_read(rpc: str) -> None:
    """gRPC reads the message of a unary request before its handler runs, and that of a stream when it is asked for."""
    asked = type("Details", (), {"method": rpcs.path(rpc), "invocation_metadata": ()})
    taken = ingress.Guard(lambda: edge.AccessControl(FixedKeys(TOKENS))).service(asked)
    assert taken is not None
    assert taken.request_streaming
    assert taken.request_deserializer is None


def test_the_guard_answers_a_call_that_its_token_does_not_allow(
    channel: grpc.Channel, monkeypatch: pytest.MonkeyPatch
) -> None:
    read: list[str] = []
    monkeypatch.setattr(
        Willing, "access", edge.AccessControl(None)
    )  # the edge itself would let everybody pass
    monkeypatch.setattr(edge, "checked", lambda request: read.append("a message"))
    assert status(channel, "GetRun", b"", [])[0] is grpc.StatusCode.UNAUTHENTICATED
    assert read == []


def test_a_message_larger_than_any_may_be_is_refused_by_its_length(channel: grpc.Channel) -> None:
    code, details = status(channel, "ScoreImages", bytes(limits.LARGEST_MESSAGE + 1))
    assert code is grpc.StatusCode.RESOURCE_EXHAUSTED
    assert "larger than max" in details


def test_a_call_of_no_known_method_is_not_the_guards() -> None:
    asked = type("Details", (), {"method": "/grpc.health.v1.Health/Check", "invocation_metadata": ()})
    assert ingress.Guard(lambda: edge.AccessControl(FixedKeys(TOKENS))).service(asked) is None


def test_the_guard_stands_before_the_handlers_of_ray_serves_own_server_too() -> None:
    """The server of every proxy and of every replica, with reflection and health, as Serve puts it together."""
    from ray.serve._private.grpc_util import enable_server_reflection, gRPCGenericServer

    from services.web.app import add_health

    async def passed_on(request: Any, context: Any) -> bytes:
        return type(request).__name__.encode()

    async def calls() -> list[Any]:
        server = gRPCGenericServer(lambda service_method, streaming_type: passed_on)
        ingress.add_services(Willing(), server)
        add_health(None, server)
        enable_server_reflection(server)
        port = server.add_insecure_port("127.0.0.1:0")
        await server.start()
        async with grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel:
            call = channel.unary_unary(rpcs.path("GetRun"))
            good, bad = rpcs.request_class("GetRun")(run_id="r").SerializeToString(), b"\xff"
            answers = [await call(data, metadata=OPERATOR, timeout=20) for data in (good, bad)]
            with pytest.raises(grpc.aio.AioRpcError) as caught:
                await call(good, timeout=20)
            healthy = await channel.unary_unary("/grpc.health.v1.Health/Check")(b"", timeout=20)
        await server.stop(None)
        return [*answers, caught.value.code(), healthy]

    ingress.guard_with(edge.AccessControl(FixedKeys(TOKENS)))
    assert asyncio.run(calls()) == [
        b"GetRunRequest",
        b"MalformedRequest",
        grpc.StatusCode.UNAUTHENTICATED,
        b"\x08\x01",
    ]
