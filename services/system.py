"""One running system on one state folder: started, watched, and ended with everything that belongs to it.

python -m services.system        # what `vouch up` becomes; settings come from the environment

This process holds the folder's lock and starts `services.driver`, which runs Ray. It stays small and never calls Ray,
so that it can end a Ray that hangs. Exit codes are those of `vouch.errors`, and `LOST` when Ray ended by itself.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import queue
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from services import logs
from services.environment import SCRATCH, prepare_environment
from services.leftovers import Record, end_leftovers, forget
from services.limits import raise_open_files
from services.ports import check_ports
from services.processes import MARK, end_all, new_mark
from services.scratch import keep_logs, make_scratch, remove_scratch
from services.starter import check_models
from vouch.errors import VouchError
from vouch.formats.escapes import spell_out, visible_lines
from vouch.settings import Access, Settings, StateFolder, load_settings
from vouch.storage.state import PRIVATE
from vouch.storage.unfinished import remove_unfinished

STOP_S = 30.0
"""Seconds for an orderly end of a system that is up; what is left is killed then."""
LOST = 8
"""Exit code when Ray ended without having been told to. Starting again helps."""
INTERRUPTED = 130
RAY_LOGS = "ray-logs"


@dataclass(frozen=True)
class Event:
    """An event of the driver ("ready", "failed", "lost", "ended"), or "stop" for a signal."""

    name: str
    values: dict[str, Any] = field(default_factory=dict)


Events = queue.SimpleQueue[Event]


class System:
    """The driver process and its events."""

    def __init__(self, mark: str, scratch: Path, events: Events) -> None:
        self._mark, self.scratch, self._events = mark, scratch, events
        self._process = subprocess.Popen(
            [sys.executable, "-m", "services.driver"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env={**os.environ, MARK: mark, SCRATCH: str(scratch)},
            start_new_session=True,  # a terminal's Ctrl-C is for this process alone
        )
        threading.Thread(target=self._listen, name="driver", daemon=True).start()

    def stop(self, timeout_s: float) -> None:
        """Ask the driver to end in order, and wait. A second signal, or the time, ends the waiting."""
        with contextlib.suppress(OSError):
            assert self._process.stdin is not None
            self._process.stdin.write(b"stop\n")
            self._process.stdin.flush()
        with contextlib.suppress(queue.Empty):
            self._events.get(timeout=timeout_s)

    def kill(self) -> None:
        """End every process of the system, at once."""
        self._process.kill()
        end_all(self._mark)
        self._process.wait()

    def _listen(self) -> None:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            values = json.loads(line)
            self._events.put(Event(values.pop("event"), values))
        code = self._process.wait()
        self._events.put(Event("ended", {"code": code}))


def main(arguments: list[str] | None = None) -> int:
    """Run until interrupted. The exit code is the error's."""
    parser = argparse.ArgumentParser(prog="python -m services.system", description=__doc__)
    parser.add_argument("--json", action="store_true", help="print the addresses as one line of JSON")
    options = parser.parse_args(arguments)
    spell_out(sys.stdout)
    os.umask(PRIVATE)  # Ray's processes and training inherit it
    events: Events = queue.SimpleQueue()
    _on_signals(lambda *_: events.put(Event("stop")))  # never an exception: no step is cut short half-way
    try:
        return _run(load_settings(), events, as_json=options.json)
    except VouchError as error:
        _say(f"error: {error.message}")
        return error.exit_code


def _run(settings: Settings, events: Events, *, as_json: bool) -> int:
    with settings.folder.lock():
        if end_leftovers(settings.folder):
            _say("ended what a system that was killed on this state folder had left")
        remove_unfinished(settings.folder)
        logs.remove_old(settings.folder.logs)
        raise_open_files()
        check_ports(settings.server)
        check_models(settings)
        with _scratch(settings.folder) as (mark, scratch):
            prepare_environment(settings, scratch)
            _say(f"{_ray(settings)} and loading the models ...")
            return _attend(settings, System(mark, scratch, events), events, as_json=as_json)


def _ray(settings: Settings) -> str:
    return f"joining the Ray at {settings.ray_address}" if settings.ray_address else "starting Ray"


@contextlib.contextmanager
def _scratch(folder: StateFolder) -> Iterator[tuple[str, Path]]:
    """A mark for a system's processes and a folder for its files. They are recorded first, for the next start."""
    mark, scratch = new_mark(), make_scratch()
    try:
        Record(mark, str(scratch)).write(folder)
        yield mark, scratch
    finally:
        end_all(mark)
        remove_scratch(scratch)
        forget(folder)


def _attend(settings: Settings, system: System, events: Events, *, as_json: bool) -> int:
    """Watches the driver from its start to its end."""
    try:
        event = events.get()
        if event.name == "ready":
            access = Access(**event.values["access"])
            for warning in event.values["warnings"]:
                _say(f"warning: {warning}")
            _announce(access, settings.folder, as_json=as_json)
            event = events.get()
            if event.name == "stop":
                _say("stopping ...")
                system.stop(STOP_S)
                return 0
    finally:
        system.kill()
    return _explain(event, settings.folder, system.scratch)


def _explain(event: Event, folder: StateFolder, scratch: Path) -> int:
    """Report why the system died, and return the exit code."""
    if event.name == "stop":
        return INTERRUPTED
    if event.name == "failed":
        _say(f"error: {event.values['message']}")
        if event.values["exit_code"] == 1:
            _show_logs(folder, scratch)
        return int(event.values["exit_code"])
    what = event.values.get("what") or "the process that runs Ray"
    _say(f"error: {what} ended by itself, and no call can be answered without it. Start the system again.")
    _show_logs(folder, scratch)
    return LOST


def _show_logs(folder: StateFolder, scratch: Path) -> None:
    if keep_logs(scratch, folder.root / RAY_LOGS):
        _say(f"the logs of Ray are in {folder.root / RAY_LOGS}")


def _on_signals(act: Callable[..., None]) -> None:
    numbers = [signal.SIGINT, signal.SIGTERM]
    if signal.getsignal(signal.SIGHUP) is not signal.SIG_IGN:  # nohup wants it ignored
        numbers.append(signal.SIGHUP)
    for number in numbers:
        signal.signal(number, act)


def _announce(access: Access, folder: StateFolder, *, as_json: bool) -> None:
    if as_json:
        announcement = {
            "address": access.address,
            "http": access.http,
            "state": str(folder.root),
            "access": str(folder.access),
        }
        sys.stdout.write(json.dumps(announcement) + "\n")
    else:
        sys.stdout.write(_greeting(access, folder))
    sys.stdout.flush()


def _greeting(access: Access, folder: StateFolder) -> str:
    return (
        f"vouch is up.\n  gRPC    {access.address}\n  web     {access.http}\n  state   {folder.root}\n"
        f"  tokens  {folder.access}\nTry: vouch generate neutrophil --state {folder.root}    (Ctrl-C ends the system)\n"
    )


def _say(line: str) -> None:
    sys.stderr.write(visible_lines(line) + "\n")
    sys.stderr.flush()


if __name__ == "__main__":
    raise SystemExit(main())
