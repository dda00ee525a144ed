"""A real system, started as a user starts it: `vouch up` on a state folder and free ports, in a process of its own."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import psutil

import vouch
from vouch.client import Client
from vouch.errors import VouchError

MARK = "BENCHMARK_RUN"  # an environment variable that every process of the system inherits
MEGABYTE = 1_000_000


def free_ports(count: int) -> list[int]:
    """Ports that nobody listens on now. Taken together, so that they differ."""
    with contextlib.ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(count)]
        for one in sockets:
            one.bind(("127.0.0.1", 0))
        return [one.getsockname()[1] for one in sockets]


class BenchmarkSystem:
    """A `vouch up` that runs."""

    def __init__(self, state: Path, process: subprocess.Popen[bytes], started: float, log: Path) -> None:
        self.state = state
        self.started = started  # time.monotonic() just before the process was made
        self.log = log
        self._process = process

    def client(self, role: str = "operator", timeout_s: float = 60.0) -> Client:
        return vouch.connect(state=self.state, role=role, timeout_s=timeout_s)

    def wait_until_it_generates(self, timeout_s: float) -> float:
        """Seconds from the start to the first image.

        Raises RuntimeError when the process ends, or has not answered in time, with the last lines of its log.
        """
        deadline = self.started + timeout_s
        reason: Exception | None = None
        while time.monotonic() < deadline:
            if self._process.poll() is not None:
                raise RuntimeError(f"vouch up ended with {self._process.returncode}:\n{self.tail()}")
            try:
                with self.client(timeout_s=30.0) as client:
                    prompt = client.describe_generator().example_prompts[0]
                    client.generate_images(prompt)
                return time.monotonic() - self.started
            except VouchError as error:
                reason = error
                time.sleep(0.1)
        raise RuntimeError(f"vouch up answers nothing after {timeout_s:.0f} s ({reason}):\n{self.tail()}")

    def wait_until_compiled(self, timeout_s: float = 600.0) -> None:
        """Return when no code is being compiled beside the serving: nothing else should be measured then."""
        deadline = time.monotonic() + timeout_s
        with self.client() as client:
            while "being made" in client.describe_generator().kernel:
                if time.monotonic() > deadline:
                    raise RuntimeError(f"the U-Net was not compiled in {timeout_s:.0f} s")
                time.sleep(1.0)

    def processes(self) -> list[psutil.Process]:
        """Every process of the system: the tree below `vouch up`, and what has left it but bears the mark."""
        with contextlib.suppress(psutil.NoSuchProcess):
            root = psutil.Process(self._process.pid)
            tree = {process.pid: process for process in [root, *root.children(recursive=True)]}
            tree.update({process.pid: process for process in psutil.process_iter() if self._marked(process)})
            return list(tree.values())
        return []

    def pss_mb(self) -> float:
        """Sum of the proportional set sizes: shared pages are counted once."""
        total = 0
        for process in self.processes():
            with contextlib.suppress(psutil.NoSuchProcess, psutil.AccessDenied):
                total += process.memory_full_info().pss
        return total / MEGABYTE

    def tail(self, lines: int = 20) -> str:
        return "\n".join(self.log.read_text("utf-8", "replace").splitlines()[-lines:])

    def stop(self, timeout_s: float = 90.0) -> None:
        """Interrupt as Ctrl-C does; what is left after the timeout is killed."""
        remaining = self.processes()
        if self._process.poll() is None:
            self._process.send_signal(signal.SIGINT)
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(timeout_s)
        _, alive = psutil.wait_procs(remaining, timeout=10)
        for process in alive:
            with contextlib.suppress(psutil.NoSuchProcess):
                process.kill()
        self._process.wait()

    def _marked(self, process: psutil.Process) -> bool:
        try:
            return process.environ().get(MARK) == str(self.state)
        except (psutil.NoSuchProcess, psutil.AccessDenied, psutil.ZombieProcess, OSError):
            return False


@contextlib.contextmanager
def running_system(
    state: Path, *, timeout_s: float = 300.0, **settings: str
) -> Iterator[tuple[BenchmarkSystem, float]]:
    """A system that answers, with the seconds to its first image. It ends with the block. settings: environment."""
    system = launch(state, **settings)
    try:
        yield system, system.wait_until_it_generates(timeout_s)
    finally:
        system.stop()


def launch(state: Path, **settings: str) -> BenchmarkSystem:
    grpc_port, http_port = free_ports(2)
    state.mkdir(parents=True, exist_ok=True)
    environment = {
        **os.environ,
        MARK: str(state),
        "VOUCH_SERVER__GRPC_PORT": str(grpc_port),
        "VOUCH_SERVER__HTTP_PORT": str(http_port),
        "RAY_USAGE_STATS_ENABLED": "0",
        **settings,
    }
    log = state / "up.log"
    with log.open("ab") as output:
        started = time.monotonic()
        process = subprocess.Popen(
            [sys.executable, "-m", "vouch", "up", "--state", str(state)],
            env=environment, stdin=subprocess.DEVNULL, stdout=output, stderr=subprocess.STDOUT,
            start_new_session=True,
        )  # fmt: skip
    return BenchmarkSystem(state, process, started, log)
