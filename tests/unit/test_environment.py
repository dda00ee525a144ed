"""What the processes of a system inherit: nothing that a proxy, a title or an older system could spoil."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import psutil
import pytest

from services.environment import prepare_environment
from services.processes import MARK, end_all, marked, new_mark
from vouch.settings import Settings
from vouch.storage.state import StateFolder

PROXIES = ("http_proxy", "https_proxy", "grpc_proxy", "all_proxy")
CALL = """
import concurrent.futures, socket, sys
import grpc
server = grpc.server(concurrent.futures.ThreadPoolExecutor(1))
port = server.add_insecure_port("[::]:0")
server.start()
with grpc.insecure_channel(f"{sys.argv[1]}:{port}") as channel:
    grpc.channel_ready_future(channel).result(20)
"""
PREPARED = """
import subprocess, sys
from pathlib import Path
from services.environment import prepare_environment
from vouch.settings import Settings
prepare_environment(Settings(state=sys.argv[2]), Path(sys.argv[2]))
subprocess.run([sys.executable, "-c", sys.argv[1]], check=True, cwd=sys.argv[2])
"""
WRITES = r"import warnings; open('file', 'w').write('\u2192'); print('\u2192'); warnings.warn('odd')"
SLEEP = "import sys; sys.stdin.read()"
PARENT = f"import subprocess, sys; subprocess.Popen([sys.executable, '-c', {SLEEP!r}], stdin=0); {SLEEP}"


@pytest.fixture
def environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, str]:
    """What a system's processes get when every proxy variable leads nowhere."""
    for name in list(os.environ):
        if "proxy" in name.lower():
            monkeypatch.delenv(name)
    for name in (*PROXIES, *map(str.upper, PROXIES)):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    before = dict(os.environ)
    settings = Settings(state=tmp_path / "state")
    settings.folder.create()
    prepare_environment(settings, tmp_path)
    prepared = dict(os.environ)
    os.environ.clear()
    os.environ.update(before)
    return prepared


def addresses() -> list[str]:
    """Every IPv4 address of this machine: Serve calls its replicas by one that is not loopback."""
    found = (one for many in psutil.net_if_addrs().values() for one in many)
    return sorted({one.address for one in found if one.family.name == "AF_INET"})


@pytest.mark.parametrize("no_proxy", [None, "localhost,127.0.0.1"])
def test_grpc_inside_a_system_never_takes_a_proxy(environment: dict[str, str], no_proxy: str | None) -> None:
    for address in [*addresses(), "localhost"]:
        values = environment if no_proxy is None else {**environment, "no_proxy": no_proxy}
        subprocess.run([sys.executable, "-c", CALL, address], env=values, check=True, timeout=60)


def test_proxies_of_other_protocols_stay_as_the_user_set_them(environment: dict[str, str]) -> None:
    assert environment["https_proxy"] == "http://127.0.0.1:9"


@pytest.mark.parametrize(
    "given", [{"PYTHONUTF8": "0", "LC_ALL": "C"}, {"PYTHONIOENCODING": "ascii"}, {"PYTHONWARNINGS": "error"}]
)
def test_processes_write_utf8_and_go_on_after_warnings_whatever_the_user_has_set(
    tmp_path: Path, given: dict[str, str]
) -> None:
    StateFolder(tmp_path / "state").create()
    subprocess.run(
        [sys.executable, "-c", PREPARED, WRITES, str(tmp_path / "state")],
        env={**os.environ, **given},
        check=True,
    )
    assert (tmp_path / "state" / "file").read_bytes() == "\u2192".encode()


def test_haproxy_ends_with_the_process_that_started_it(environment: dict[str, str]) -> None:
    script = environment["RAY_SERVE_HAPROXY_BINARY_PATH"]
    starter = "import subprocess, sys; print(subprocess.Popen([sys.argv[1], '-v']).wait())"
    ran = subprocess.run(
        [sys.executable, "-c", starter, script], capture_output=True, text=True, check=True, timeout=60
    )
    assert "HAProxy version" in ran.stdout
    assert "launch.py" in Path(script).read_text()  # which asks the kernel for it, see test_runner


def test_a_marked_process_is_found_and_ended_with_what_it_started() -> None:
    mark = new_mark()
    with subprocess.Popen(
        [sys.executable, "-c", PARENT], env={**os.environ, MARK: mark}, stdin=subprocess.PIPE
    ) as parent:
        while len(marked(mark)) < 2:
            assert parent.poll() is None
        assert not marked(new_mark())
        assert end_all(mark) == []
        assert parent.poll() is not None
    assert not marked(mark)


def test_a_child_that_dropped_the_mark_is_found_by_its_parent() -> None:
    mark = new_mark()
    forgetful = f"import os, sys; os.environ.pop({MARK!r}); " + PARENT
    with subprocess.Popen(
        [sys.executable, "-c", forgetful], env={**os.environ, MARK: mark}, stdin=subprocess.PIPE
    ) as parent:
        while len(marked(mark)) < 2:
            assert parent.poll() is None
        assert end_all(mark) == []
