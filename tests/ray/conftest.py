"""One real system for all tests of this folder, started as `vouch up` starts it, with tiny models."""

from __future__ import annotations

import json
import os
import re
import selectors
import signal
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import psutil
import pytest

import vouch
from services.ports import free_range
from tests.tiny import save_generator, save_reward
from vouch.client import Client
from vouch.formats import images
from vouch.storage.catalog import Catalog
from vouch.storage.registry import Registry
from vouch.storage.state import StateFolder
from vouch.types.version import Version

ROOT = Path(__file__).parents[2]
START_S = 500.0


@dataclass(frozen=True)
class Running:
    """A system that answers, its models, and the way in."""

    folder: StateFolder
    process: subprocess.Popen[str]
    address: str
    http: str

    def client(self, role: str = "operator") -> Client:
        return vouch.connect(state=self.folder.root, role=role, timeout_s=120)

    def get(self, path: str) -> str:
        with urllib.request.urlopen(self.http + path, timeout=60) as answer:
            return answer.read().decode()

    def metric(self, name: str) -> float:
        """The sum of all series of this name."""
        found = re.findall(rf"^{name}(?:\{{.*\}})? (\S+)$", self.get("/metrics"), re.MULTILINE)
        return sum(map(float, found))


def environment(state: Path, models: Path, port: int) -> dict[str, str]:
    return {
        **os.environ,
        "VOUCH_STATE": str(state),
        "VOUCH_SERVER__GRPC_PORT": str(port),
        "VOUCH_SERVER__HTTP_PORT": str(port + 1),
        "VOUCH_GENERATION__MODEL": str(models / "first"),
        "VOUCH_REWARD__MODEL": str(models / "judge"),
        "VOUCH_GENERATION__COMPILE": "false",  # a minute of two cores, for images of a tiny model
    }


def first_line(process: subprocess.Popen[str], timeout_s: float) -> str:
    """The first line that the process prints; "" when it ends or the time is up."""
    assert process.stdout is not None
    with selectors.DefaultSelector() as selector:
        selector.register(process.stdout, selectors.EVENT_READ)
        return process.stdout.readline() if selector.select(timeout_s) else ""


def apart(one: bytes, other: bytes) -> int:
    """How many levels of 255 the most different pixels of two images are apart.

    One is none: what is drawn together is rounded differently from what is drawn alone, by some processors.
    """
    return int(abs(images.decode(one).astype(int) - images.decode(other).astype(int)).max())


def until(what: Callable[[], bool], seconds: float = 60.0) -> None:
    """Wait for a condition, by looking again and again."""
    deadline = time.monotonic() + seconds
    while not what():
        assert time.monotonic() < deadline, "it did not happen in time"
        time.sleep(0.1)


def listening(process: subprocess.Popen[str]) -> set[tuple[str, str, int]]:
    """Program, address and port of everything that this process and its descendants listen on."""
    first = psutil.Process(process.pid)
    found = set()
    for one in [first, *first.children(recursive=True)]:
        with suppress(psutil.NoSuchProcess):  # it ended while it was looked at
            name = " ".join(one.cmdline()[:1]) or one.name()
            ports = [port for port in one.net_connections(kind="inet") if port.status == psutil.CONN_LISTEN]
            found |= {(name, port.laddr.ip, port.laddr.port) for port in ports}
    return found


@pytest.fixture(scope="session")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folders `first`, `second` (generators), `judge`, `other` (reward models)."""
    folder = tmp_path_factory.mktemp("models")
    for seed, name in enumerate(("first", "second")):
        save_generator(folder / name, seed)
    for seed, name in enumerate(("judge", "other")):
        save_reward(folder / name, seed)
    return folder


@contextmanager
def started(state: Path, models: Path, **settings: str) -> Iterator[Running]:
    """A system of its own, until the block ends."""
    log = (state.parent / "system.log").open("w+")
    process = subprocess.Popen(
        [sys.executable, "-m", "services.system", "--json"],
        env={**environment(state, models, free_range(2)), **settings},
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=log,
        text=True,
        start_new_session=True,
    )
    try:
        line = first_line(process, START_S)
        log.seek(0)
        assert line, f"the system did not come up: {log.read()[-3000:]}"
        told = json.loads(line)
        yield Running(StateFolder(state), process, told["address"], told["http"])
    finally:
        process.send_signal(signal.SIGINT)
        process.wait(120)
        log.close()


@pytest.fixture(scope="session")
def system(tmp_path_factory: pytest.TempPathFactory, models: Path) -> Iterator[Running]:
    with started(tmp_path_factory.mktemp("system") / "state", models) as running:
        yield running


@pytest.fixture(scope="session")
def client(system: Running) -> Iterator[Client]:
    with system.client() as client:
        yield client


@pytest.fixture(scope="session")
def registry(system: Running) -> Iterator[Registry]:
    """The system's own registry, opened beside it as a training job does."""
    with Catalog(system.folder.catalog_url) as catalog:
        yield Registry(catalog, system.folder.models)


@pytest.fixture(scope="session")
def first(client: Client) -> Version:
    """The generator that serves from the start."""
    return client.get_version("generator-first")


@pytest.fixture(scope="session")
def second(registry: Registry, models: Path, first: Version) -> Version:
    """Another generator, published while the system runs."""
    return registry.publish(models / "second", kind="generator", format="diffusers", name="generator-second")
