"""Files that appear whole or not at all, and stay after a power cut."""

from __future__ import annotations

import errno
import os
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from vouch.errors import FailedPrecondition, StorageFull

# EFBIG is the quota that RLIMIT_FSIZE and some file systems know instead of ENOSPC.
_FULL = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG})
_DENIED = frozenset({errno.EACCES, errno.EPERM, errno.EROFS})
_IN_THE_WAY = frozenset({errno.EEXIST, errno.ENOTDIR, errno.EISDIR})


@contextmanager
def storage_errors(what: str) -> Iterator[None]:
    """Translate what the file system says while `what` is written.

    Raises:
        StorageFull: no room left; nothing was kept.
        FailedPrecondition: the place may not be written, or something else is there.
    """
    try:
        yield
    except OSError as error:
        if error.errno in _FULL:
            raise StorageFull(
                f"The disk is full: {what} was not written. Free some space and repeat."
            ) from error
        if error.errno in _DENIED:
            raise FailedPrecondition(
                f"{what} cannot be written: {error.strerror}. Check who owns the state folder.",
                "NOT_WRITABLE",
            ) from error
        if error.errno in _IN_THE_WAY:
            raise FailedPrecondition(
                f"{what} cannot be written: {error.filename} is in the way and of another kind (file or folder). "
                "Move it away, or choose another place.",
                "PLACE_TAKEN",
            ) from error
        raise


def sync(path: Path) -> None:
    """Make a file, or the names inside a folder, durable: a rename is only as durable as the folder that holds it."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def write_whole(path: Path, data: bytes, *, mode: int = 0o644) -> None:
    """Write `data` so that no reader ever sees a part of it, and fsync before the name appears.

    Raises:
        StorageFull, FailedPrecondition: as `storage_errors`; the old content of `path`, if any, is untouched.
    """
    temporary = path.parent / f".{path.name}.{uuid.uuid4().hex}.tmp"
    with storage_errors(str(path)):
        try:
            _write_synced(temporary, data, mode)
            os.replace(temporary, path)
        except BaseException:
            temporary.unlink(missing_ok=True)
            raise
        sync(path.parent)


def _write_synced(path: Path, data: bytes, mode: int) -> None:
    handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode)
    with open(handle, "wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())
