"""Ray's short-lived files. Sockets limit how long their paths may be, so they are not in the state folder."""

from __future__ import annotations

import contextlib
import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

from vouch.errors import FailedPrecondition

PREFIX = "vouch-"
LONGEST_BASE = 24
"""Characters. A socket's path may have 107: 15 for our folder, 5 for Ray's try, 63 for its session and socket."""
SHARED_MEMORY = Path("/dev/shm")  # noqa: S108 - Ray's own place for objects
FALLBACKS = ("/tmp", "/var/tmp", "/dev/shm")  # noqa: S108 - a private folder is made in it


def make_scratch() -> Path:
    """A new private folder with a short path.

    Raises FailedPrecondition where no short folder can be written.
    """
    for base in (tempfile.gettempdir(), *FALLBACKS):
        if len(os.fsencode(base)) <= LONGEST_BASE:
            with contextlib.suppress(OSError):
                return Path(tempfile.mkdtemp(prefix=PREFIX, dir=base))
    raise FailedPrecondition(
        f"Ray's sockets need a folder with a path of at most {LONGEST_BASE} characters that can be written. "
        f"{tempfile.gettempdir()} (from TMPDIR) and {', '.join(FALLBACKS)} are not. Set TMPDIR to a short path.",
        "NO_SCRATCH",
    )


def object_store_folder(scratch: Path, size_bytes: int, shared: Path = SHARED_MEMORY) -> Path:
    """Folder for Ray's object store of this size: shared memory, or `scratch` if that is missing, full, read-only or
    too small, as a container's 64 MB."""
    with contextlib.suppress(OSError):
        state = os.statvfs(shared)
        if state.f_bavail * state.f_frsize >= size_bytes and os.access(shared, os.W_OK):
            return shared
    return scratch


def remove_scratch(folder: Path) -> None:
    """Remove what `make_scratch` made; a folder that it did not make stays."""
    with contextlib.suppress(OSError):
        if (
            folder.name.startswith(PREFIX)
            and folder.lstat().st_uid == os.getuid()
            and not folder.is_symlink()
        ):
            shutil.rmtree(folder, ignore_errors=True)


def keep_logs(scratch: Path, into: Path) -> bool:
    """Copy Ray's logs into the folder `into`, replacing earlier ones. False if there are none."""
    sessions = [path for path in scratch.glob("ray*/session_*/logs") if not path.parent.is_symlink()]
    if not sessions:
        return False
    shutil.rmtree(into, ignore_errors=True)
    for number, logs in enumerate(_by_time(sessions)):
        with contextlib.suppress(OSError, shutil.Error):  # sockets, and files that are being removed
            shutil.copytree(logs, into / str(number), symlinks=True)
    return into.is_dir()


def _by_time(paths: list[Path]) -> Iterator[Path]:
    yield from sorted(paths, key=lambda path: path.stat().st_mtime)
