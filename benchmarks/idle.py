"""Idle channels: open HTTP/2 connections on which nobody asks anything."""

from __future__ import annotations

import contextlib
import selectors
import socket
import time
from types import TracebackType

SETTINGS = bytes([0, 0, 0, 4, 0, 0, 0, 0, 0])  # an empty frame of RFC 9113, section 6.5
PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + SETTINGS


class IdleChannels:
    """So many connections to a port of this machine for the length of the block, each with the greeting of HTTP/2.

    answered: those that the server has greeted. The others wait in the queue of the kernel.
    """

    def __init__(self, port: int, count: int, patience_s: float = 60.0) -> None:
        self._port, self._count, self._patience_s = port, count, patience_s
        self._sockets: list[socket.socket] = []
        self.answered = 0

    def __enter__(self) -> IdleChannels:
        with selectors.DefaultSelector() as selector:
            deadline = time.monotonic() + self._patience_s
            for _ in range(self._count):
                self._open(selector, deadline)
            while self.answered < len(self._sockets) and time.monotonic() < deadline:
                self._greeted(selector, 0.1)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for one in self._sockets:
            one.close()

    def _open(self, selector: selectors.BaseSelector, deadline: float) -> None:
        """One more; none where the server takes none in time."""
        with contextlib.suppress(OSError):
            one = socket.create_connection(("127.0.0.1", self._port), max(0.01, deadline - time.monotonic()))
            self._sockets.append(one)
            one.sendall(PREFACE)
            selector.register(one, selectors.EVENT_READ)
        self._greeted(selector, 0.0)

    def _greeted(self, selector: selectors.BaseSelector, timeout_s: float) -> None:
        for key, _ in selector.select(timeout_s):
            selector.unregister(key.fileobj)
            with contextlib.suppress(OSError):
                self.answered += bool(key.fileobj.recv(4096))  # type: ignore[union-attr]
