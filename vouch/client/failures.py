"""Translates gRPC statuses to the errors of vouch, by the `ErrorInfo` reason, or else by the code."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import grpc
from google.protobuf.message import Message
from google.rpc import error_details_pb2, status_pb2

from vouch import errors
from vouch.grpc_status import STATUS_KEY

BY_CODE: dict[grpc.StatusCode, type[errors.VouchError]] = {
    grpc.StatusCode.INVALID_ARGUMENT: errors.InvalidInput,
    grpc.StatusCode.OUT_OF_RANGE: errors.InvalidInput,
    grpc.StatusCode.UNAUTHENTICATED: errors.Unauthenticated,
    grpc.StatusCode.PERMISSION_DENIED: errors.PermissionDenied,
    grpc.StatusCode.NOT_FOUND: errors.NotFound,
    grpc.StatusCode.ALREADY_EXISTS: errors.AlreadyExists,
    grpc.StatusCode.FAILED_PRECONDITION: errors.FailedPrecondition,
    grpc.StatusCode.ABORTED: errors.FailedPrecondition,
    grpc.StatusCode.RESOURCE_EXHAUSTED: errors.Exhausted,
    grpc.StatusCode.DATA_LOSS: errors.DataLoss,
    grpc.StatusCode.UNAVAILABLE: errors.Unavailable,
    grpc.StatusCode.DEADLINE_EXCEEDED: errors.DeadlineExceeded,
    grpc.StatusCode.CANCELLED: errors.Cancelled,
    grpc.StatusCode.UNIMPLEMENTED: errors.FailedPrecondition,
    grpc.StatusCode.UNKNOWN: errors.Internal,
    grpc.StatusCode.INTERNAL: errors.Internal,
}


def _subclasses(kind: type[errors.VouchError]) -> Iterator[type[errors.VouchError]]:
    for sub in kind.__subclasses__():
        yield sub
        yield from _subclasses(sub)


def as_vouch_error(error: grpc.RpcError, address: str) -> errors.VouchError:
    """`error` must be one that grpc raised: they all know code, details and trailing metadata."""
    code, details = error.code(), error.details() or ""
    reason = reason_of(error)
    kind = _class_of(code, reason)
    if reason is None:
        # Not from a vouch gateway, but from the proxy or this client's gRPC.
        details = _explained(code, details, address)
    return kind(details or f"The call failed with {code.name}.", reason, retry_delay_s(error))


def reason_of(error: grpc.RpcError) -> str | None:
    """The reason of a vouch gateway; None for a failure from elsewhere."""
    info = _detail(error, error_details_pb2.ErrorInfo)
    return None if info is None else str(info.reason)


def retry_delay_s(error: grpc.RpcError) -> float | None:
    """Seconds after which the system asks for the next try; None where it does not say."""
    retry = _detail(error, error_details_pb2.RetryInfo)
    return None if retry is None else float(retry.retry_delay.ToMilliseconds() / 1000)


def _class_of(code: grpc.StatusCode, reason: str | None) -> type[errors.VouchError]:
    broad = BY_CODE.get(code, errors.Internal)
    return next((kind for kind in _subclasses(broad) if reason is not None and kind.reason == reason), broad)


def _detail(error: grpc.RpcError, kind: type[Message]) -> Any:
    """The detail of that type in the status; None without one."""
    for key, value in error.trailing_metadata() or ():
        if key == STATUS_KEY:
            for detail in status_pb2.Status.FromString(value).details:
                message = kind()
                if detail.Unpack(message):
                    return message
    return None


def _explained(code: grpc.StatusCode, details: str, address: str) -> str:
    if code is grpc.StatusCode.UNAVAILABLE:
        return f"No vouch system answers at {address}. Start one with `vouch up`, or check the address. ({details})"
    if code is grpc.StatusCode.DEADLINE_EXCEEDED:
        return f"{address} did not answer in time. Allow more time, or ask for less at once."
    if code is grpc.StatusCode.UNIMPLEMENTED:
        return f"The system at {address} does not know this call; is it another version of vouch? ({details})"
    return details
