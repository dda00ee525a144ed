"""Faults of processes and folders: what callers see when a process is killed, and what a start refuses or leaves.

python -m benchmarks.field_faults --json FILE              # all of it, some 20 minutes on two cores
python -m benchmarks.field_faults --only kills --kills 1   # kills | ends | refusals | leftovers

Every figure comes from a real system on a state folder of its own, and `repeats` says how often it was tried.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import random
import selectors
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import IO, Any

import psutil

import vouch
from benchmarks.unloadable import UNLOADABLE
from services.leftovers import FILE_NAME
from services.ports import free_range
from services.processes import marked
from vouch.client import Client, ScoreItem
from vouch.errors import VouchError
from vouch.types.rating import NewRating

START_S, QUIET_S, RECOVERY_S = 400.0, 3.0, 60.0
PAUSE_S = 0.3
"""Seconds between the calls of a caller: the system must not be busy with them alone."""
SURVIVED = {
    "haproxy": "haproxy",
    "haproxy manager": "ray::HAProxyManager",
    "serve controller": "ray::ServeController",
    "fallback proxy": "ray::ProxyActor",
    "gateway": "ray::ServeReplica:vouch:gateway",
    "generation": "ray::ServeReplica:vouch:generation",
    "reward": "ray::ServeReplica:vouch:reward",
    "feedback": "ray::ServeReplica:vouch:feedback",
    "operations": "ray::ServeReplica:vouch:operations",
    "log monitor": "log_monitor.py",
    "dashboard": "dashboard.py",
}
"""Kinds of process that a running system replaces or can do without."""
FATAL = {
    "raylet": "raylet/raylet",
    "gcs server": "gcs/gcs_server",
    "runtime-env agent": "ray::RuntimeEnvAgent",
    "dashboard agent": "ray::DashboardAgent",
    "driver": "services.driver",
}
"""Kinds of process whose end ends the system."""


@dataclass
class Up:
    """A system in a process of its own."""

    state: Path
    options: tuple[str, ...] = ()
    settings: Mapping[str, str] = field(default_factory=dict)
    process: subprocess.Popen[str] = field(init=False)
    _log: IO[bytes] = field(init=False)

    def __post_init__(self) -> None:
        # A pipe that nobody reads would stop the system once it is full.
        self._log = tempfile.TemporaryFile()  # noqa: SIM115 - it lives as long as this
        port = free_range(2)
        settings = {
            "VOUCH_STATE": str(self.state),
            "VOUCH_SERVER__GRPC_PORT": str(port),
            "VOUCH_SERVER__HTTP_PORT": str(port + 1),
            "VOUCH_GENERATION__COMPILE": "false",
        }
        self.process = subprocess.Popen(
            [sys.executable, "-m", "vouch", "up", "--json", *self.options],
            env={**os.environ, **settings, **self.settings},
            stdout=subprocess.PIPE,
            stderr=self._log,
            text=True,
            start_new_session=True,
        )

    def said(self) -> str:
        """Everything that it has written to its standard error."""
        log = self._log.fileno()  # whose position is the writer's too
        return os.pread(log, os.fstat(log).st_size, 0).decode("utf-8", "replace")

    def is_up(self, timeout_s: float = START_S) -> bool:
        """Wait for its first line."""
        assert self.process.stdout is not None
        with selectors.DefaultSelector() as selector:
            selector.register(self.process.stdout, selectors.EVENT_READ)
            return bool(selector.select(timeout_s)) and bool(self.process.stdout.readline())

    @property
    def mark(self) -> str:
        with contextlib.suppress(OSError, ValueError, KeyError):
            return str(json.loads((self.state / FILE_NAME).read_text())["mark"])
        return ""

    def find(self, words: str) -> psutil.Process:
        """Its process whose command line holds these words."""
        for one in marked(self.mark):
            with contextlib.suppress(psutil.Error):
                line = " ".join(one.cmdline())
                if words in (line.split(" -")[0] if words == "haproxy" else line):
                    return one
        raise LookupError(f"the system has no process {words!r}")

    def wait(self, timeout_s: float) -> int | None:
        """Its exit code; None when it does not end in time."""
        with contextlib.suppress(subprocess.TimeoutExpired):
            return self.process.wait(timeout_s)
        return None


@contextlib.contextmanager
def started(state: Path, options: tuple[str, ...] = (), **settings: str) -> Iterator[Up]:
    """A start that is ended with the block, also where the benchmark itself is told to end."""
    up = Up(state, options, settings)
    try:
        yield up
    finally:
        up.process.send_signal(signal.SIGTERM)
        if up.wait(60) is None:
            up.process.kill()


@contextlib.contextmanager
def running(state: Path, **settings: str) -> Iterator[Up]:
    """A start that has come up."""
    with started(state, **settings) as up:
        if not up.is_up():
            raise RuntimeError(f"it did not come up, exit code {up.process.poll()}: {up.said()[-2000:]}")
        yield up


# ---- kills that a system survives


class CountingCaller:
    """Makes one kind of call again and again, and notes when each began and was answered."""

    def __init__(self, name: str, call: Callable[[Client], Any], client: Client) -> None:
        self.name, self._call, self._client = name, call, client
        self.answered: list[tuple[float, float]] = []
        self.failures: list[str] = []
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        self._stop.set()
        self._thread.join(RECOVERY_S)

    def recovered(self, since: float) -> float | None:
        """When the first call that began after `since` was answered; None before."""
        return next((end for begin, end in self.answered if begin > since), None)

    def _run(self) -> None:
        while not self._stop.is_set():
            begin = time.monotonic()
            try:
                self._call(self._client)
                self.answered.append((begin, time.monotonic()))
            except VouchError as error:
                self.failures.append(f"{self.name}: {type(error).__name__}: {error.message[:200]}")
            self._stop.wait(PAUSE_S)


def _calls(client: Client) -> dict[str, Callable[[Client], Any]]:
    image = client.generate_images("neutrophil", steps=2).images[0]
    item = ScoreItem(item_id="a", data=image.data, prompt="neutrophil")
    many = [replace(item, item_id=str(row)) for row in range(8)]
    rating = NewRating(
        request_id="kills", image=image.digest, rater="field", kind="simulated", verdict="plausible"
    )
    return {
        "generate": lambda one: one.generate_images("neutrophil", steps=2, count=2),
        "stream": lambda one: list(one.stream_images("monocyte", steps=2, count=4)),
        "score": lambda one: one.score_images([item]),
        "score stream": lambda one: list(one.score_stream(many, batch=2)),
        "import": lambda one: one.import_ratings([rating]),
        "feedback": lambda one: one.get_image(image.digest),
        "operations": lambda one: one.get_serving(),
    }


def kills(folder: Path, repeats: int = 1, survived: Mapping[str, str] = SURVIVED) -> dict[str, Any]:
    """Kill each of `survived` under load. Failures that callers of the client library see, and the seconds until every
    kind of call that began after the kill was answered."""
    kinds: dict[str, dict[str, Any]] = {}
    with running(folder / "state") as up:
        client = vouch.connect(state=up.state)  # open to the end: callers may be at work
        callers = [CountingCaller(name, call, client) for name, call in _calls(client).items()]
        for caller in callers:
            caller.start()
        for kind, words in survived.items():
            kinds[kind] = _worst([_kill(up, words, callers) for _ in range(repeats)])
            _say(f"{kind}: {kinds[kind]}")
        for caller in callers:
            caller.stop()
    return {
        "kill_failures_seen": sum(len(one["failures"]) for one in kinds.values()),
        "kill_recovery_s_max": max(max(one["recovery_s"].values()) for one in kinds.values()),
        "kill_calls": sum(len(caller.answered) for caller in callers),
        "kill_repeats": repeats,
        "kills": kinds,
    }


def _kill(up: Up, words: str, callers: list[CountingCaller]) -> dict[str, Any]:
    """Failures, and for each caller the seconds until a call that began after the kill was answered."""
    before = {caller.name: len(caller.failures) for caller in callers}
    up.find(words).kill()
    killed = time.monotonic()
    time.sleep(QUIET_S)  # some deaths are noticed late
    while time.monotonic() < killed + RECOVERY_S and None in (caller.recovered(killed) for caller in callers):
        time.sleep(0.1)
    noticed = time.monotonic()
    while time.monotonic() < noticed + RECOVERY_S and None in (
        caller.recovered(noticed) for caller in callers
    ):
        time.sleep(0.1)
    return {
        "failures": [failure for caller in callers for failure in caller.failures[before[caller.name] :]],
        "recovery_s": {
            caller.name: round((caller.recovered(killed) or time.monotonic()) - killed, 1)
            for caller in callers
        },
    }


def _worst(tries: list[dict[str, Any]]) -> dict[str, Any]:
    names = tries[0]["recovery_s"]
    return {
        "failures": [failure for one in tries for failure in one["failures"]],
        "recovery_s": {name: max(one["recovery_s"][name] for one in tries) for name in names},
    }


# ---- kills that end a system


def ends(folder: Path) -> dict[str, Any]:
    """Kill each of `FATAL`. Seconds until `vouch up` ends, its exit code, and processes that it leaves."""
    kinds = {}
    for kind, words in FATAL.items():
        with running(folder / "state") as up:
            mark = up.mark
            up.find(words).kill()
            killed = time.monotonic()
            code = up.wait(60)
            kinds[kind] = {
                "exit_code": code,
                "ended_s": round(time.monotonic() - killed, 1),
                "left": len(marked(mark)),
            }
            _say(f"{kind}: {kinds[kind]}")
    return {"end_s_max": max(one["ended_s"] for one in kinds.values()), "ends": kinds}


# ---- starts that are refused


def refusals(folder: Path) -> dict[str, Any]:
    """Start on each of `UNLOADABLE`. A refusal counts when it ends with an error that names the part and a remedy."""
    cases = {}
    for number, (name, (make, part)) in enumerate(UNLOADABLE.items()):
        model = make(folder / "models" / f"model-{number}")  # a name that says nothing of the part
        option = "--reward" if name.startswith("reward") else "--generator"
        with started(folder / f"state-{number}", (option, str(model))) as up:
            came_up = up.is_up()
        line = next((line for line in up.said().splitlines() if line.startswith("error:")), "")
        refused = not came_up and part in line and "Remedy:" in line and up.process.returncode in (2, 5)
        cases[name] = {"refused": refused, "exit_code": up.process.returncode, "said": line[:400]}
        _say(f"{name}: {cases[name]}")
    return {
        "start_refusals": sum(one["refused"] for one in cases.values()),
        "start_refusals_of": len(cases),
        "refusals": cases,
    }


# ---- what a start leaves behind


def leftovers(folder: Path, each: int = 20, seed: int = 0, start_s: float = 25.0) -> dict[str, Any]:
    """SIGKILL and SIGTERM at random moments of a start: processes that are alive 10 s later, and scratch folders that
    the next start does not remove. Seconds until a start that got SIGTERM has ended."""
    moments = random.Random(seed)
    left, slowest = Counter[str](), 0.0
    for number in range(2 * each):
        sent = signal.SIGKILL if number % 2 == 0 else signal.SIGTERM
        up = Up(folder / "state")
        time.sleep(moments.uniform(0.0, start_s))
        record = _record(up.state)
        up.process.send_signal(sent)
        signalled = time.monotonic()
        up.wait(10)
        if sent == signal.SIGTERM:
            slowest = max(slowest, time.monotonic() - signalled)
        alive = _alive_after(record.get("mark", ""), signalled + 10)
        left[f"{sent.name} processes"] += alive
        if sent == signal.SIGTERM and record:
            left["SIGTERM folders"] += Path(record["scratch"]).exists()
        elif record:
            left["SIGKILL folders"] += _after_next_start(up.state, Path(record["scratch"]))
        _say(f"{number}: {sent.name} left {dict(left)}, slowest {slowest:.1f} s")
    return {
        "leftovers": sum(left.values()),
        "leftovers_of": {"SIGKILL": each, "SIGTERM": each},
        "sigterm_s_max": round(slowest, 1),
        "left": dict(left),
    }


def _record(state: Path) -> dict[str, str]:
    with contextlib.suppress(OSError, ValueError):
        return dict(json.loads((state / FILE_NAME).read_text()))
    return {}


def _alive_after(mark: str, deadline: float) -> int:
    while mark and marked(mark) and time.monotonic() < deadline:
        time.sleep(0.2)
    return len(marked(mark)) if mark else 0


def _after_next_start(state: Path, scratch: Path) -> bool:
    """Whether the folder is still there after the next start, which this ends as soon as it has taken its own."""
    up = Up(state)
    deadline = time.monotonic() + 30
    while _record(state).get("scratch", str(scratch)) == str(scratch) and time.monotonic() < deadline:
        time.sleep(0.1)
    up.process.send_signal(signal.SIGTERM)
    up.wait(20)
    return scratch.exists()


def measure(
    folder: Path, only: str = "", kill_repeats: int = 1, leftover_repeats: int = 20
) -> dict[str, Any]:
    """All figures, or one group of them."""
    groups: dict[str, Callable[[Path], dict[str, Any]]] = {
        "kills": lambda place: kills(place, kill_repeats),
        "ends": ends,
        "refusals": refusals,
        "leftovers": lambda place: leftovers(place, leftover_repeats),
    }
    figures: dict[str, Any] = {}
    for name, group in groups.items():
        if only in ("", name):
            figures |= group(folder / name)
    return figures


def _say(line: str) -> None:
    sys.stderr.write(line + "\n")


def main() -> None:
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # so that the systems are ended
    parser = argparse.ArgumentParser(prog="python -m benchmarks.field_faults", description=__doc__)
    parser.add_argument("--json", type=Path, help="write the figures here")
    parser.add_argument("--only", default="", choices=("", "kills", "ends", "refusals", "leftovers"))
    parser.add_argument("--kills", type=int, default=1, help="kills of each kind of process")
    parser.add_argument("--leftovers", type=int, default=20, help="signals of each kind during a start")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="field-faults-") as folder:
        figures = measure(Path(folder), options.only, options.kills, options.leftovers)
    text = json.dumps(figures, indent=1)
    if options.json:
        options.json.write_text(text + "\n")
    sys.stdout.write(text + "\n")


if __name__ == "__main__":
    main()
