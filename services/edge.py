"""The gRPC edge: authentication, authorization and errors of every call.

A gateway method takes the request and who asks, returns or yields messages, and lets errors propagate:

    class Gateway:
        access: edge.AccessControl

        @edge.unary
        async def GetRun(self, request: GetRunRequest, identity: edge.Identity) -> Run: ...

        @edge.streaming
        async def WatchRun(self, request: WatchRunRequest, identity: edge.Identity): yield Run()

The decorators, knowing the RPC by the method's name, check the token and the role in the table of `vouch.rpcs`, and
translate errors by `vouch.grpc_status`. They serve a plain `grpc.aio` server and Ray Serve alike. Ray Serve drops
the trailing metadata of a call that raises, so a failed call does not raise: it sets code, details and
metadata, and answers with an empty message. gRPC never delivers the empty answer of a unary call; a
failed stream ends with one empty message before its status.
"""

from __future__ import annotations

import asyncio
import errno
import inspect
import secrets
from collections.abc import AsyncIterator, Callable, Coroutine, Iterable
from contextlib import aclosing
from dataclasses import dataclass
from typing import Any, Protocol, TypeVar, cast

import grpc
from google.protobuf.message import Message

from services import field_limits, logs
from services.identity import Identity
from vouch import errors
from vouch.client import rpcs
from vouch.client.endpoint import CLIENT_KEY
from vouch.grpc_status import STATUS_KEY, code_of, status_of
from vouch.rpcs import RPCS
from vouch.types.token import Token

LONGEST_CLIENT = 64


class Context(Protocol):
    """The common part of grpc.aio's and Ray Serve's call contexts."""

    def invocation_metadata(self) -> Iterable[tuple[str, str | bytes]] | None: ...
    def set_code(self, code: Any) -> None: ...
    def set_details(self, details: str) -> None: ...
    def set_trailing_metadata(self, trailing_metadata: Any) -> None: ...


class TokenLookup(Protocol):
    """Looks tokens up by their secret."""

    def find(self, secret: str) -> Token | None: ...


@dataclass(frozen=True)
class AccessControl:
    """Token lookup; None disables authentication, so that every caller is an operator."""

    keys: TokenLookup | None

    def identify(self, context: Context) -> Identity:
        """Raises `Unauthenticated` for a missing or unknown token."""
        metadata = {key.lower(): value for key, value in context.invocation_metadata() or ()}
        client = str(metadata.get(CLIENT_KEY, ""))[:LONGEST_CLIENT]
        if self.keys is None:
            return Identity.unchecked(client)
        header = metadata.get("authorization", "")
        if not header:
            raise errors.Unauthenticated(
                "This call has no token. Send the metadata 'authorization: Bearer TOKEN' with a token "
                "from `vouch token create`, or from access.json in the state folder."
            )
        scheme, _, secret = str(header).partition(" ")
        token = self.keys.find(secret.strip()) if scheme.lower() == "bearer" and secret.strip() else None
        if token is None:
            raise errors.Unauthenticated(
                "This token is unknown here, or revoked. Send the metadata 'authorization: Bearer TOKEN' with a "
                "token from `vouch token create`, or from access.json in the state folder of this system."
            )
        return Identity.of(token, client)

    def admit(self, context: Context, rpc: str) -> Identity:
        """Raises `Unauthenticated`, or `PermissionDenied` if the caller's role does not allow this call."""
        identity = self.identify(context)
        needed = RPCS[rpc].role
        if not identity.may(needed):
            raise errors.PermissionDenied(
                f"{rpc} needs the role {needed}; this token has the role {identity.role}. Use a token of that role, "
                "from `vouch token create` or access.json in the state folder."
            )
        return identity


class Servicer(Protocol):
    """An object whose methods the decorators wrap."""

    @property
    def access(self) -> AccessControl: ...


S = TypeVar("S", bound=Servicer)
Request = TypeVar("Request")
"""A message of the contract, or a stream of them."""
Answer = TypeVar("Answer")


Translator = Callable[[BaseException], errors.VouchError | None]
_translators: list[Translator] = []


def translate_with(translator: Translator) -> None:
    """Adds a translation of foreign errors, such as Ray's, which this module must not import."""
    if translator not in _translators:
        _translators.append(translator)


def as_vouch_error(error: BaseException, reference: str) -> errors.VouchError:
    """The error for the caller. An unexpected exception becomes `Internal`, with a reference to the log."""
    # Ray wraps an error of another process in one whose text is a traceback; the original is its cause.
    for candidate in (getattr(error, "cause", None), error):
        if isinstance(candidate, errors.Internal):
            return errors.Internal(f"{candidate.message.rstrip('.')}. {_find(reference)}")
        if isinstance(candidate, errors.VouchError):
            return candidate
    for translator in _translators:
        translated = translator(error)
        if translated is not None:
            return translated
    origin = getattr(error, "cause", None) or error
    if isinstance(origin, (TimeoutError, asyncio.TimeoutError)):
        return errors.DeadlineExceeded("The time for this call was up. Allow it more or ask for less.")
    if isinstance(origin, OSError) and origin.errno in (errno.ENOSPC, errno.EDQUOT):
        return errors.StorageFull("The server's disk is full. Free some space there and repeat the call.")
    return errors.Internal(f"Something went wrong inside vouch, not in the request. {_find(reference)}")


def _find(reference: str) -> str:
    return f"On the server `vouch logs {reference}` shows it."


def refuse(
    context: Context,
    error: BaseException,
    rpc: str = "",
    identity: Identity | None = None,
    request_id: str = "",
) -> None:
    """Tells the caller of `error`; the method must end without raising, see above.

    The log gets one line without a word of the caller's. Both know it by the same reference.
    """
    reference = secrets.token_hex(6)
    refusal = as_vouch_error(error, reference)
    code = code_of(refusal)
    entry = {
        "reference": reference, "code": code.name, "reason": refusal.reason, "rpc": rpc,
        "role": identity.role if identity else "",
    }  # fmt: skip
    if request_id:
        entry["request_id"] = request_id
    if code is grpc.StatusCode.INTERNAL:
        logs.failed(error, **entry)
    else:
        logs.refused(**entry)
    status = status_of(refusal, reference)
    context.set_code(code)
    context.set_details(status.message)
    context.set_trailing_metadata([(STATUS_KEY, status.SerializeToString())])


def unary(
    method: Callable[[S, Request, Identity], Coroutine[Any, Any, Answer]],
) -> Callable[[S, Request, Context], Coroutine[Any, Any, Answer]]:
    """Makes an RPC that answers once; its request may be a stream."""
    empty = _empty_answer(method)

    async def call(self: S, request: Request, grpc_context: Context) -> Message:
        identity: Identity | None = None
        try:
            identity = self.access.admit(grpc_context, method.__name__)
            answer = await method(self, checked(request), identity)
            return _sendable(answer, method.__name__)
        except Exception as error:  # noqa: BLE001 - the edge is where every error becomes a status
            refuse(grpc_context, error, method.__name__, identity, logs.request_id(request))
            return empty()

    return _named_after(method, call)


def streaming(
    method: Callable[[S, Request, Identity], AsyncIterator[Answer]],
) -> Callable[[S, Request, Context], AsyncIterator[Answer]]:
    """Makes an RPC that answers with a stream; its request may be one too."""
    empty = _empty_answer(method)

    async def call(self: S, request: Request, grpc_context: Context) -> AsyncIterator[Message]:
        identity: Identity | None = None
        try:
            identity = self.access.admit(grpc_context, method.__name__)
            # Closing at once tells the method that its caller has left.
            async with aclosing(method(self, checked(request), identity)) as answers:  # type: ignore[type-var]
                async for answer in answers:
                    yield answer
        except Exception as error:  # noqa: BLE001 - the edge is where every error becomes a status
            refuse(grpc_context, error, method.__name__, identity, logs.request_id(request))
            # Ray's plain proxy learns of code and metadata only together with a message.
            yield empty()

    return _named_after(method, call)


@dataclass(frozen=True)
class MalformedRequest:
    """Stands for a message that is no request of its RPC, until the edge says so to its caller."""

    problem: str
    reason: str = "MALFORMED_MESSAGE"


def checked(request: Request) -> Request:
    """The request, or its stream, of which every message is within the limits of the contract.

    Raises:
        InvalidInput: names the field that is not, or says that the message cannot be read.
    """
    if isinstance(request, MalformedRequest):
        raise errors.InvalidInput(request.problem, request.reason)
    if isinstance(request, Message):
        field_limits.check(request)
        return request
    return cast(Request, _checked_stream(request))


async def _checked_stream(messages: Any) -> AsyncIterator[Message]:
    async for message in messages:
        yield checked(message)


def _sendable(answer: Message, rpc: str) -> Message:
    """The answer, unless it is larger than a server may send. Raises FailedPrecondition."""
    size = answer.ByteSize()
    if size <= field_limits.LARGEST_MESSAGE:
        return answer
    raise errors.FailedPrecondition(
        f"The answer of {rpc} would have {size / field_limits.MIB:.0f} MiB, and one message carries at most "
        f"{field_limits.LARGEST_MESSAGE // field_limits.MIB} MiB. Ask for less at once, or use the call that streams.",
        "ANSWER_TOO_LARGE",
    )


def _empty_answer(method: Callable[..., Any]) -> Callable[[], Message]:
    return rpcs.answer_class(method.__name__)


def _named_after(method: Callable[..., Any], call: Callable[..., Any]) -> Callable[..., Any]:
    # Not functools.wraps: Ray Serve looks for a parameter called grpc_context, and wraps would hide it.
    call.__name__, call.__qualname__ = method.__name__, method.__qualname__
    call.__doc__, call.__module__ = inspect.getdoc(method), method.__module__
    return call
