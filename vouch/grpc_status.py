"""The errors of vouch as gRPC statuses, for every server: the code, the sentence and the details."""

from __future__ import annotations

import grpc
from google.protobuf import any_pb2, duration_pb2
from google.protobuf.message import Message
from google.rpc import error_details_pb2, status_pb2

from vouch import errors

DOMAIN = "vouch"
STATUS_KEY = "grpc-status-details-bin"
# Code, sentence and details share HTTP/2 trailers of 8 KiB; percent-encoding and base64 swell them.
LONGEST_MESSAGE_BYTES = 1200

STATUS: dict[type[errors.VouchError], grpc.StatusCode] = {
    errors.InvalidInput: grpc.StatusCode.INVALID_ARGUMENT,
    errors.Unauthenticated: grpc.StatusCode.UNAUTHENTICATED,
    errors.PermissionDenied: grpc.StatusCode.PERMISSION_DENIED,
    errors.NotFound: grpc.StatusCode.NOT_FOUND,
    errors.AlreadyExists: grpc.StatusCode.ALREADY_EXISTS,
    errors.FailedPrecondition: grpc.StatusCode.FAILED_PRECONDITION,
    errors.Exhausted: grpc.StatusCode.RESOURCE_EXHAUSTED,
    errors.StorageFull: grpc.StatusCode.RESOURCE_EXHAUSTED,
    errors.DataLoss: grpc.StatusCode.DATA_LOSS,
    errors.CorruptVersion: grpc.StatusCode.DATA_LOSS,
    errors.Unavailable: grpc.StatusCode.UNAVAILABLE,
    errors.DeadlineExceeded: grpc.StatusCode.DEADLINE_EXCEEDED,
    errors.Cancelled: grpc.StatusCode.CANCELLED,
    errors.Internal: grpc.StatusCode.INTERNAL,
}


def code_of(error: errors.VouchError) -> grpc.StatusCode:
    """The status code of an error, by the nearest class in `STATUS`."""
    return next((STATUS[kind] for kind in type(error).__mro__ if kind in STATUS), grpc.StatusCode.INTERNAL)


def status_of(error: errors.VouchError, reference: str = "") -> status_pb2.Status:
    """What travels in the trailing metadata: code, sentence, `ErrorInfo` with the reason and the reference in the
    log, and `RetryInfo` where the error knows when to come again."""
    info = error_details_pb2.ErrorInfo(reason=error.reason, domain=DOMAIN)
    if reference:
        info.metadata["reference"] = reference
    details = [_packed(info)]
    if error.retry_after_s is not None:
        delay = duration_pb2.Duration()
        delay.FromMilliseconds(int(error.retry_after_s * 1000))
        details.append(_packed(error_details_pb2.RetryInfo(retry_delay=delay)))
    return status_pb2.Status(code=code_of(error).value[0], message=_shortened(str(error)), details=details)


def _packed(detail: Message) -> any_pb2.Any:
    packed = any_pb2.Any()
    packed.Pack(detail)
    return packed


def _shortened(text: str) -> str:
    raw = text.encode()
    if len(raw) <= LONGEST_MESSAGE_BYTES:
        return text
    return raw[: LONGEST_MESSAGE_BYTES - 3].decode(errors="ignore") + "…"
