"""The contract's services on a gRPC server: the token first, then the message, then its form.

Serve calls `add_services` before a server of its own starts, in every replica of the gateway and in every proxy. A call
that its token does not allow is answered before one byte of its message is read. A message that is too large or no
protobuf reaches the gateway as `edge.MalformedRequest`, so that one place refuses it, with a code and a sentence.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from typing import Any, cast

import grpc
from google.protobuf.message import DecodeError, Message

from services import edge, field_limits, metrics
from services.environment import guarding_catalog_url
from services.keyring import Keyring
from vouch.client import rpcs
from vouch.errors import VouchError
from vouch.grpc_status import code_of
from vouch.storage.catalog import Catalog

PACKAGE = "/vouch.v1."


def add_services(servicer: Any, server: Any) -> None:
    """Register all services of the contract, behind a guard that looks at the metadata alone."""
    # Handlers that are registered by name would be found before any guard.
    server.add_registered_method_handlers = lambda *_: None
    server.add_generic_rpc_handlers((Guard(known_access),))
    for name in dict.fromkeys(method.containing_service.full_name for method in rpcs.METHODS.values()):
        methods = [rpc for rpc, method in rpcs.METHODS.items() if method.containing_service.full_name == name]
        handlers = {rpc: _handler(rpc, servicer) for rpc in methods}
        server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(name, handlers),))


def _handler(rpc: str, servicer: Any) -> grpc.RpcMethodHandler:
    make = getattr(grpc, f"{rpcs.arity(rpc)}_rpc_method_handler")
    handler: grpc.RpcMethodHandler = make(
        getattr(servicer, rpc),
        request_deserializer=reader(rpc),
        response_serializer=rpcs.answer_class(rpc).SerializeToString,
    )
    return handler


def reader(rpc: str) -> Callable[[bytes], Any]:
    """The deserializer of requests. It never raises: gRPC would answer UNKNOWN."""
    kind, most = rpcs.request_class(rpc), field_limits.largest_request(rpc)

    def read(data: bytes) -> Message | edge.MalformedRequest:
        if len(data) > most:
            return edge.MalformedRequest(
                f"The message has {len(data) / field_limits.MIB:.1f} MiB; {rpc} takes at most "
                f"{most // field_limits.MIB} MiB in one. Send less in each message.",
                "MESSAGE_TOO_LARGE",
            )
        try:
            return kind.FromString(data)
        except DecodeError:
            return edge.MalformedRequest(
                f"These {len(data)} bytes are not a {kind.DESCRIPTOR.full_name}: the client that sent them, or "
                "something between, is broken."
            )

    return read


# ---- the guard


@dataclass(frozen=True)
class CallMetadata:
    """The part of a call that is known before its message."""

    entries: Any

    def invocation_metadata(self) -> Any:
        return self.entries


class Guard(grpc.GenericRpcHandler):
    """Rejects calls of the contract that are not allowed, without reading their messages."""

    def __init__(self, access: Callable[[], edge.AccessControl]) -> None:
        self._access = access
        self._method_handlers: dict[
            str, Any
        ] = {}  # Serve looks here for handlers of ours to replace by its own

    def service(self, handler_call_details: Any) -> grpc.RpcMethodHandler | None:
        """None lets the call pass to its own handler."""
        rpc = handler_call_details.method.rpartition("/")[2]
        if not handler_call_details.method.startswith(PACKAGE) or rpc not in rpcs.METHODS:
            return None
        try:
            metadata = CallMetadata(handler_call_details.invocation_metadata)
            self._access().admit(cast(edge.Context, metadata), rpc)
        except VouchError as error:
            return _refusing(error, rpc)
        return None


def _refusing(error: VouchError, rpc: str) -> grpc.RpcMethodHandler:
    async def refuse(messages: Any, context: Any) -> AsyncIterator[Message]:
        metrics.REQUESTS.labels(rpc, code_of(error).name).inc()
        edge.refuse(context, error, rpc)
        return
        yield  # a generator that yields nothing

    # A stream on both sides, whatever the RPC is: only streams are not read before their handler runs.
    return grpc.stream_stream_rpc_method_handler(refuse)


_access: list[edge.AccessControl] = []


def guard_with(access: edge.AccessControl) -> None:
    """The gateway's own check guards the servers of its process."""
    _access[:] = [access]


def known_access() -> edge.AccessControl:
    """Access control: that of this process's gateway, or in a proxy that of the catalog."""
    if not _access:
        url = guarding_catalog_url()
        guard_with(edge.AccessControl(Keyring(Catalog(url).tokens) if url else None))
    return _access[0]
