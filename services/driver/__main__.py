"""Ray's driver: starts Ray and Serve, deploys the application, and watches Ray until it is told to stop.

python -m services.driver       # started by services.system, with the environment and the pipes that it prepares

It writes one line of JSON for each event: {"event": "ready", "access": {...}, "warnings": [...]},
{"event": "failed", "message": ..., "exit_code": ...} or {"event": "lost", "what": ...}. It reads standard input: a line
is the order to stop, the end of the input means that its parent is gone.
"""

from __future__ import annotations

import json
import os
import signal
import sys
import threading
import traceback
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any, TextIO

from services import loopback
from services.environment import SCRATCH
from services.processes import MARK, end_all
from services.scratch import remove_scratch
from services.starter import check_serving, publish_models
from services.tokens import access_of
from vouch.errors import VouchError
from vouch.settings import Access, Settings, load_settings
from vouch.types.clock import now

if TYPE_CHECKING:  # Ray is imported when the environment is as its processes need it
    from services.driver.joined import JoinedCluster
    from services.driver.node import Node

LOOK_S = 0.5
"""Seconds between two looks at Ray's own processes."""


class Driver:
    """Ray, Serve and the application."""

    def __init__(self, settings: Settings, scratch: Path, refuse: Callable[[VouchError], None]) -> None:
        """Start all of them. Raises what the models, Ray and Serve raise.

        refuse: called at once with why the models cannot be served, though Ray still starts.
        """
        started = now()
        self.node = _joined(settings) if settings.ray_address else _own(settings, scratch, refuse)
        from services.driver import doors

        self.access: Access = access_of(settings)
        doors.deploy(settings)
        if not settings.ray_address:  # the ports of a cluster are in the care of whoever started it
            loopback.check_ports(settings.server)
        self.warnings = check_serving(settings, started)
        settings.folder.write_access(self.access)

    def stop(self) -> None:
        """End training (resumed at the next start), then Serve and Ray."""
        from services.driver import doors

        doors.stop_jobs()
        self.node.stop()


def main() -> int:
    events, stopped = _own_output(), threading.Event()
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # a terminal sends it to all; the parent says when to stop
    threading.Thread(target=_obey, args=(stopped,), name="parent", daemon=True).start()
    try:
        driver = Driver(load_settings(), Path(os.environ[SCRATCH]), lambda error: _refuse(events, error))
        _tell(events, "ready", access=asdict(driver.access), warnings=driver.warnings)
        while not stopped.wait(LOOK_S):
            if what := driver.node.lost():
                _tell(events, "lost", what=what)
                os._exit(0)  # nothing of Ray answers any more, so nothing can be shut down in order
        driver.stop()
    except VouchError as error:
        _refuse(events, error)
    except Exception as error:  # noqa: BLE001 - Ray's own: nobody who starts a system should have to read a traceback
        if os.environ.get("VOUCH_DEBUG") == "1":
            traceback.print_exc()
        # Of Ray's errors the last line is the cause; those before it are the trace of another process.
        cause = f"{type(error).__name__}: {error}".strip().splitlines()[-1]
        message = f"The system broke off ({cause}). VOUCH_DEBUG=1 shows where."
        _tell(events, "failed", message=message, exit_code=1)
    return 0


def _own(settings: Settings, scratch: Path, refuse: Callable[[VouchError], None]) -> Node:
    """A Ray of this system with Serve on it, and the models published beside its start: both take long."""
    from services.driver.node import Node, check_gpus

    with ThreadPoolExecutor(1) as beside:
        published = beside.submit(_published, settings, refuse)
        node = Node(scratch)
        check_gpus(settings.generation)
        from services.driver import doors

        doors.start_serve(settings)
        published.result()
    return node


def _joined(settings: Settings) -> JoinedCluster:
    """A Ray that ran before, with Serve on it, and the models published: nothing before all checks have passed."""
    from services.driver.joined import JoinedCluster

    cluster = JoinedCluster(settings)
    try:
        publish_models(settings)
        from services.driver import doors

        doors.start_serve(settings)
    except BaseException:
        cluster.stop()
        raise
    return cluster


def _published(settings: Settings, refuse: Callable[[VouchError], None]) -> None:
    try:
        publish_models(settings)
    except VouchError as error:
        refuse(error)
        raise


def _refuse(events: TextIO, error: VouchError) -> None:
    """Tell the parent, which then ends this process with all that it has started."""
    _tell(events, "failed", message=error.message, exit_code=error.exit_code)


def _own_output() -> TextIO:
    """Standard output for the events alone: whatever a library prints goes to standard error."""
    events = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    sys.stdout = sys.stderr
    return events


def _tell(events: TextIO, event: str, **values: Any) -> None:
    events.write(json.dumps({"event": event, **values}) + "\n")
    events.flush()


def _obey(stopped: threading.Event) -> None:
    """Wait for the order to stop. A parent that is gone without one can no longer end what this process started."""
    while os.read(0, 64):
        stopped.set()
    if not stopped.is_set():
        end_all(os.environ[MARK])
        remove_scratch(Path(os.environ[SCRATCH]))
        os._exit(1)


if __name__ == "__main__":
    raise SystemExit(main())
