"""Checks of the public ports, and free ports for internal use."""

from __future__ import annotations

import contextlib
import errno
import random
import socket

from vouch.errors import FailedPrecondition
from vouch.settings import ServerSettings

LOWEST, HIGHEST = 20_000, 32_000  # below the range that kernels hand out to clients


def is_free(port: int, host: str = "") -> bool:
    """Whether nobody listens on this port ("" is every IPv4 address). Connections that have just ended do not count."""
    return _refusal(port, host) is None


def check_ports(server: ServerSettings) -> None:
    """Raises FailedPrecondition, with the reason and the option to change, for a port that cannot be listened on."""
    for name, port in (("grpc-port", server.grpc_port), ("http-port", server.http_port)):
        error = _refusal(port, server.host)
        if error is None:
            continue
        if isinstance(error, PermissionError):
            raise FailedPrecondition(
                f"Port {port} may not be listened on by this user: choose one above 1023 with --{name}.",
                "PORT_FORBIDDEN",
            )
        if isinstance(error, socket.gaierror) or error.errno not in (None, *_TAKEN):
            raise FailedPrecondition(
                f"{server.host} is not an address of this machine ({error.strerror}): choose another with --host.",
                "NO_SUCH_HOST",
            )
        raise FailedPrecondition(
            f"Port {port} is taken by another program: stop it, or choose another with --{name}.",
            "PORT_TAKEN",
        )


_TAKEN = (errno.EADDRINUSE,)


def free_range(count: int) -> int:
    """The first of `count` neighbouring free ports."""
    for _ in range(200):
        first = random.randrange(LOWEST, HIGHEST - count)
        if all(is_free(first + offset) for offset in range(count)):
            return first
    raise OSError(f"no {count} neighbouring free ports between {LOWEST} and {HIGHEST}")


def _refusal(port: int, host: str) -> OSError | None:
    """Why this port cannot be listened on; None when it can."""
    try:
        family, _, _, _, address = socket.getaddrinfo(
            host or None,
            port,
            socket.AF_UNSPEC if host else socket.AF_INET,
            socket.SOCK_STREAM,
            0,
            socket.AI_PASSIVE,
        )[0]
        with contextlib.closing(socket.socket(family, socket.SOCK_STREAM)) as probe:
            # As servers do: a port whose last connections are in TIME_WAIT is free.
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind(address)
            probe.listen(1)
    except OSError as error:
        return error
    return None
