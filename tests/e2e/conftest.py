"""A whole system as a user starts it, with tiny models."""

from __future__ import annotations

import json
import os
import select
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests import tiny

START_S = 400.0


@pytest.fixture(scope="session")
def desk(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A reader's folder, whose `state` belongs to a running system: one for every test, for a start takes most of a
    minute."""
    folder = tmp_path_factory.mktemp("desk")
    with started(folder):
        yield folder


@contextmanager
def started(folder: Path) -> Iterator[Path]:
    """`vouch up` on `folder`/state until the block ends, which asks it to end in order; gives the state folder."""
    tiny.save_generator(folder / "tiny-generator", seed=1)
    tiny.save_reward(folder / "tiny-reward", seed=1)
    command = [
        *(sys.executable, "-m", "vouch", "up", "--json", "--state", folder / "state"),
        *("--grpc-port", free_port(), "--http-port", free_port()),
        *("--generator", folder / "tiny-generator", "--reward", folder / "tiny-reward"),
    ]
    with (folder / "log").open("w") as log:
        quiet = {**os.environ, "VOUCH_GENERATION__COMPILE": "false"}
        system = subprocess.Popen(list(map(str, command)), env=quiet, stdout=subprocess.PIPE, stderr=log)
        try:
            told = json.loads(_first_line(system, folder / "log"))
            assert Path(told["state"]) == folder / "state"
            yield folder / "state"
            system.send_signal(signal.SIGINT)
            assert system.wait(120) == 0, (folder / "log").read_text()
        finally:
            if system.poll() is None:
                system.kill()
                system.wait()


def free_port() -> int:
    """A port of 127.0.0.1 that nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _first_line(system: subprocess.Popen[bytes], log: Path) -> bytes:
    assert system.stdout is not None
    deadline = time.monotonic() + START_S
    line = b""
    while not line.endswith(b"\n"):
        ready, _, _ = select.select([system.stdout], [], [], max(0.0, deadline - time.monotonic()))
        chunk = os.read(system.stdout.fileno(), 4096) if ready else b""
        assert chunk, f"vouch up did not come up:\n{log.read_text()}"
        line += chunk
    return line
