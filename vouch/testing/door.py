"""Authentication and error statuses of the fake server, as the real one's clients see them."""

from __future__ import annotations

import inspect
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass
from typing import Any

import grpc
from google.protobuf.message import Message

from vouch import errors
from vouch.grpc_status import STATUS_KEY, code_of, status_of
from vouch.rpcs import RPCS
from vouch.types.token import ROLES, SCOPES, Scope


@dataclass(frozen=True)
class Caller:
    """The caller of an RPC: name and role of the token."""

    name: str
    role: str
    scopes: tuple[Scope, ...]


def guarded(
    rpc: str, method: Callable[[Any, Caller], Any], tokens: dict[str, str] | None
) -> Callable[[Any, grpc.aio.ServicerContext], Any]:
    """A gRPC handler around `method(request, caller)`.

    tokens: secrets by role; None admits every call as an operator's.
    """
    if inspect.isasyncgenfunction(method):
        return _streaming(rpc, method, tokens)
    return _unary(rpc, method, tokens)


def _unary(
    rpc: str, method: Callable[[Any, Caller], Awaitable[Message]], tokens: dict[str, str] | None
) -> Callable[[Any, grpc.aio.ServicerContext], Awaitable[Message]]:
    async def call(request: Any, context: grpc.aio.ServicerContext) -> Message:
        try:
            return await method(request, _admit(rpc, context, tokens))
        except errors.VouchError as error:
            await _abort(context, error)
            raise

    return call


def _streaming(
    rpc: str, method: Callable[[Any, Caller], AsyncIterator[Message]], tokens: dict[str, str] | None
) -> Callable[[Any, grpc.aio.ServicerContext], AsyncIterator[Message]]:
    async def call(request: Any, context: grpc.aio.ServicerContext) -> AsyncIterator[Message]:
        try:
            async for answer in method(request, _admit(rpc, context, tokens)):
                yield answer
        except errors.VouchError as error:
            await _abort(context, error)

    return call


def _admit(rpc: str, context: grpc.aio.ServicerContext, tokens: dict[str, str] | None) -> Caller:
    if tokens is None:
        return Caller("", "operator", SCOPES)
    metadata = {key.lower(): value for key, value in context.invocation_metadata() or ()}
    secret = str(metadata.get("authorization", "")).removeprefix("Bearer ")
    role = next((role for role, known in tokens.items() if known == secret), None)
    if role is None:
        raise errors.Unauthenticated("This call brings no token, or one that is not in `TOKENS`.")
    needed = RPCS[rpc].role
    if ROLES.index(role) < ROLES.index(needed):  # type: ignore[arg-type]
        raise errors.PermissionDenied(f"{rpc} needs the role {needed}; this token has the role {role}.")
    return Caller(role, role, () if role == "client" else SCOPES)


async def _abort(context: grpc.aio.ServicerContext, error: errors.VouchError) -> None:
    status = status_of(error)
    await context.abort(code_of(error), status.message, ((STATUS_KEY, status.SerializeToString()),))
