"""Everything that a user or an operator can cause, as one small tree.

    VouchError
    ├── InvalidInput         the request is wrong, whatever the state of the system
    ├── Unauthenticated      no token, or one that is not known
    ├── PermissionDenied     the token is known, its role is not enough
    ├── NotFound             an image, version, run, rollout or file that is not there
    ├── AlreadyExists        the same name or request_id, with other content
    ├── FailedPrecondition   right request, wrong moment (a state folder in use, a rollout under way)
    ├── Exhausted            a bounded queue is full
    │   └── StorageFull      the disk is full
    ├── DataLoss             stored bytes are not what was stored
    │   └── CorruptVersion   a model version's files differ from its manifest
    ├── Unavailable          try again: something that is needed does not answer
    ├── DeadlineExceeded     the caller's time was up
    ├── Cancelled            the caller took the request back
    └── Internal             a defect of vouch; nothing that the user did

This module imports nothing, so that every process may raise and catch without weight. The translation to
gRPC status codes is one table in `vouch/grpc_status.py`; the command line exits with `exit_code`.
"""

from __future__ import annotations


class VouchError(Exception):
    """The base. `message` is a sentence that a stranger can act on; `reason` a constant that a script can match;
    `retry_after_s` when the same call may succeed, None when nobody can say.

    Survives pickling between processes, because every argument reaches the base constructor.
    """

    reason: str = "VOUCH_ERROR"
    exit_code: int = 1
    retry_after_s: float | None = None

    def __init__(self, message: str, reason: str | None = None, retry_after_s: float | None = None) -> None:
        reason = reason or type(self).reason
        super().__init__(message, reason, retry_after_s)
        self.message = message
        self.reason = reason
        if retry_after_s is not None:
            self.retry_after_s = retry_after_s

    def __str__(self) -> str:
        return self.message


class InvalidInput(VouchError):
    reason = "INVALID_INPUT"
    exit_code = 2


class Unauthenticated(VouchError):
    reason = "UNAUTHENTICATED"
    exit_code = 3


class PermissionDenied(VouchError):
    reason = "PERMISSION_DENIED"
    exit_code = 3


class NotFound(VouchError):
    reason = "NOT_FOUND"
    exit_code = 4


class AlreadyExists(VouchError):
    reason = "ALREADY_EXISTS"
    exit_code = 5


class FailedPrecondition(VouchError):
    reason = "FAILED_PRECONDITION"
    exit_code = 5


class Exhausted(VouchError):
    reason = "EXHAUSTED"
    exit_code = 6


class StorageFull(Exhausted):
    reason = "STORAGE_FULL"
    exit_code = 7


class DataLoss(VouchError):
    reason = "DATA_LOSS"
    exit_code = 7


class CorruptVersion(DataLoss):
    reason = "CORRUPT_VERSION"


class Unavailable(VouchError):
    reason = "UNAVAILABLE"
    exit_code = 6
    retry_after_s = 0.5  # a replica is replaced, or a database fails over, in seconds


class DeadlineExceeded(VouchError):
    reason = "DEADLINE_EXCEEDED"
    exit_code = 6


class Cancelled(VouchError):
    reason = "CANCELLED"
    exit_code = 130  # what a shell reports for an interrupted command


class Internal(VouchError):
    reason = "INTERNAL"
