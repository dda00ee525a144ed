"""Common parts of all commands: connection, output and exit codes.

Every error class has its exit code, so that a command that raises the right error cannot exit with the wrong code.
``vouch --help`` prints `EXIT_CODES`.
"""

from __future__ import annotations

import contextlib
import functools
import inspect
import os
import signal
import sys
import threading
import traceback
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, get_type_hints

import typer

from vouch.cli import render
from vouch.errors import Internal, NotFound, Unavailable, VouchError
from vouch.extras import missing_extra

if TYPE_CHECKING:
    from vouch.client import Client

EXIT_CODES = """0 ok · 1 any other error · 2 wrong usage or invalid input · 3 token invalid or without the role ·
4 not found · 5 refused in this state, or a conflict · 6 system unreachable, overloaded or too late ·
7 data damaged or disk full · 8 Ray died (vouch up) · 130 interrupted"""

INTERRUPTED = 130
GRACE_S = 5.0
"""Seconds that an interrupted command has to clean up."""

JsonOption = Annotated[
    bool, typer.Option("--json", help="Print one JSON document to stdout; everything else goes to stderr.")
]
StateOption = Annotated[
    Path | None,
    typer.Option("--state", envvar="VOUCH_STATE", help="State folder of the system.", show_default="./state"),
]
AddressOption = Annotated[
    str | None,
    typer.Option(
        "--address",
        envvar="VOUCH_ADDRESS",
        help="gRPC address HOST:PORT. Default: read from the state folder.",
    ),
]
TokenOption = Annotated[
    str | None,
    typer.Option("--token", envvar="VOUCH_TOKEN", help="Access token. Default: read from the state folder."),
]
CaOption = Annotated[
    Path | None,
    typer.Option("--ca", envvar="VOUCH_CA", help="Trusted CA certificate, PEM, for a system with TLS."),
]

WindowOption = Annotated[
    str,
    typer.Option(
        help="Grey values shown as black and as white in images of more than 8 bits, such as 0:4095 for 12-bit data.",
        metavar="LOW:HIGH",
    ),
]

SHARED: tuple[tuple[str, Any, Any], ...] = (
    ("as_json", JsonOption, False),
    ("state", StateOption, None),
    ("address", AddressOption, None),
    ("token", TokenOption, None),
    ("ca", CaOption, None),
)


@dataclass(frozen=True)
class Session:
    """One invocation of one command."""

    as_json: bool
    state: Path | None
    address: str | None
    token: str | None
    ca: Path | None

    @contextlib.contextmanager
    def connect(self) -> Iterator[Client]:
        """A client of the running system, closed at the end. Raises `VouchError` if no system is found.

        After Ctrl-C it is not closed: an interrupt inside gRPC can leave a lock held, and closing would wait for it
        for ever.
        """
        import vouch

        try:
            client = vouch.connect(self.address, token=self.token, state=self.state, ca=self.ca)
        except NotFound as error:
            # For a script "never started" and "does not answer" are the same: start the system or wait.
            raise Unavailable(error.message, error.reason) from error
        try:
            yield client
        except KeyboardInterrupt:
            raise
        except BaseException:
            client.close()
            raise
        client.close()

    def emit(self, value: Any, view: Callable[[], Any]) -> None:
        """Prints `value` as JSON with --json, otherwise what `view` returns."""
        if self.as_json:
            render.print_json(value)
        else:
            shown = view()
            if shown is not None:
                render.stdout().print(shown)


def command(
    app: typer.Typer, name: str, examples: str = "", any_options: bool = False, more_help: str = ""
) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Registers a function whose first parameter is a `Session`, and adds the options ``--json``, ``--state`` ….

    `more_help` comes before the examples. `any_options` leaves undeclared options in `typer.Context.args`.
    """

    def register(function: Callable[..., None]) -> Callable[..., None]:
        @functools.wraps(function)
        def run(*args: Any, **kwargs: Any) -> None:
            session = Session(**{key: kwargs.pop(key) for key, _, _ in SHARED})
            with reported():
                function(session, *args, **kwargs)

        _sign(run, function)
        loose = {"allow_extra_args": True, "ignore_unknown_options": True} if any_options else None
        app.command(name, help=_help(function, examples, more_help), context_settings=loose)(run)
        return function

    return register


def _sign(run: Callable[..., None], function: Callable[..., None]) -> None:
    hints = get_type_hints(function, include_extras=True)
    own = [p.replace(annotation=hints[p.name]) for p in inspect.signature(function).parameters.values()][1:]
    shared = [
        inspect.Parameter(key, inspect.Parameter.KEYWORD_ONLY, default=default, annotation=kind)
        for key, kind, default in SHARED
    ]
    # Typer reads both the signature and the annotations; those of the wrapped function would hide ours.
    del run.__wrapped__  # type: ignore[attr-defined]
    run.__signature__ = inspect.Signature([*own, *shared])  # type: ignore[attr-defined]
    run.__annotations__ = {p.name: p.annotation for p in [*own, *shared]}


def _help(function: Callable[..., None], examples: str, more: str) -> str:
    # Lines of a paragraph are joined, so that the terminal's width wraps them.
    paragraphs = (inspect.getdoc(function) or "").split("\n\n")
    text = "\n\n".join(" ".join(paragraph.split()) for paragraph in paragraphs)
    text += more
    if examples:
        text += "\n\n\b\nExamples:\n" + "\n".join(
            f"  {line}" for line in inspect.cleandoc(examples).splitlines()
        )
    return text


@contextlib.contextmanager
def reported() -> Iterator[None]:
    """Turns an error into one sentence on stderr and an exit code; ``VOUCH_DEBUG=1`` adds the traceback."""
    try:
        with _interruptible():
            yield
    except VouchError as error:
        raise _ended(str(error), error.exit_code) from None
    except KeyboardInterrupt:
        raise _ended("Interrupted.", INTERRUPTED) from None
    except BrokenPipeError:
        # The reader of the pipe is gone (`vouch … | head`); Python must not report it at shutdown either.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        raise typer.Exit(0) from None
    except OSError as error:
        raise _ended(*_of_os_error(error)) from None
    except (typer.Exit, typer.Abort, typer.TyperException):
        raise
    except ModuleNotFoundError as error:
        missing = missing_extra(error) or Internal(f"The Python package {error.name} is not installed.")
        raise _ended(str(missing), missing.exit_code) from None
    except Exception as error:  # noqa: BLE001 - no traceback may reach the user
        summary = f"{type(error).__name__}: {error}"
        raise _ended(f"Internal error ({summary}). VOUCH_DEBUG=1 shows the traceback.", 1) from None


@contextlib.contextmanager
def _interruptible() -> Iterator[None]:
    """Ctrl-C raises KeyboardInterrupt, and exits the process after `GRACE_S` seconds if it is still running then.

    An interrupt inside gRPC can leave a lock held, and cleaning up would wait for it for ever.
    """
    if not hasattr(signal, "setitimer") or threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGINT, _interrupt)
    try:
        yield
    finally:  # the timer of an interrupt keeps running: the exit of the process can wait for a lock as well
        signal.signal(signal.SIGINT, before)


def _interrupt(number: int, frame: object) -> None:
    signal.signal(signal.SIGALRM, _abandon)
    signal.setitimer(signal.ITIMER_REAL, GRACE_S)
    raise KeyboardInterrupt


def _abandon(number: int, frame: object) -> None:
    """Writes to the file descriptor: the held lock may be the console's."""
    os.write(2, b"error: Interrupted.\n")
    os._exit(INTERRUPTED)


def _of_os_error(error: OSError) -> tuple[str, int]:
    import errno

    where = f" ({error.filename})" if error.filename else ""
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return f"The disk is full{where}. Free some space and run the same command again.", 7
    if isinstance(error, (FileNotFoundError, IsADirectoryError, NotADirectoryError, PermissionError)):
        return f"{error.strerror}{where}.", 2
    return f"{error.strerror or error}{where}.", 1


def _ended(message: str, code: int) -> typer.Exit:
    if os.environ.get("VOUCH_DEBUG") == "1":
        traceback.print_exc()
    render.stderr().print(f"[red]error:[/red] {render.escape(message)}", highlight=False)
    return typer.Exit(code)
