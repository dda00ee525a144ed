"""File locks between processes. They end with the process that holds them."""

from __future__ import annotations

from vouch.errors import FailedPrecondition


def take_lock(handle: int) -> None:
    """Lock an open file descriptor until it is closed.

    Raises:
        BlockingIOError: another process holds the lock.
        FailedPrecondition: this operating system has no POSIX locks.
    """
    try:
        import fcntl  # imported here: the client also runs on Windows, where there is none
    except ModuleNotFoundError:
        raise FailedPrecondition(
            "This command locks a folder, which needs Linux or macOS; on Windows run it inside WSL.",
            "NO_FILE_LOCKS",
        ) from None
    fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
