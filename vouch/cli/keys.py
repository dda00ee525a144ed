"""Single key presses from a terminal, or characters from a pipe."""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Iterator
from typing import Protocol

INTERRUPT = "\x03"


class Keys(Protocol):
    """The source of key presses."""

    def press(self) -> str:
        """The next key, lower-case; "" at the end of the input."""
        ...

    def line(self) -> str:
        """The rest of the line, for free text."""
        ...


class PipedKeys:
    """Characters of a pipe or file; white space is ignored."""

    def press(self) -> str:
        while True:
            key = sys.stdin.read(1)
            if not key or not key.isspace():
                return key.lower()

    def line(self) -> str:
        return sys.stdin.readline().strip()


class TerminalKeys:
    """Keys of a terminal, read without Enter."""

    def press(self) -> str:
        key = os.read(sys.stdin.fileno(), 16).decode(errors="ignore")[:1]
        if key == INTERRUPT:
            raise KeyboardInterrupt
        return key.lower()

    def line(self) -> str:
        with _mode_restored():
            import termios

            settings = termios.tcgetattr(sys.stdin.fileno())
            settings[3] |= termios.ICANON | termios.ECHO
            termios.tcsetattr(sys.stdin.fileno(), termios.TCSADRAIN, settings)
            return sys.stdin.readline().strip()


@contextlib.contextmanager
def open_keys() -> Iterator[Keys]:
    """Keys of this process's standard input; restores the mode of the terminal at the end."""
    if not sys.stdin.isatty():
        yield PipedKeys()
        return
    import tty

    with _mode_restored():
        tty.setcbreak(sys.stdin.fileno())
        yield TerminalKeys()


@contextlib.contextmanager
def _mode_restored() -> Iterator[None]:
    import termios

    before = termios.tcgetattr(sys.stdin.fileno())
    try:
        yield
    finally:
        termios.tcsetattr(sys.stdin.fileno(), termios.TCSADRAIN, before)
