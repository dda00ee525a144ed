"""Starts of real systems that are told to end, or killed: no moment leaves a process or a folder behind."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import psutil
import pytest

from services.leftovers import FILE_NAME, Record
from services.ports import free_range
from services.processes import marked
from tests.ray.conftest import ROOT, until
from vouch.storage.state import StateFolder

pytestmark = [pytest.mark.ray, pytest.mark.timeout(300)]


class Start:
    """A start of a real system, as `vouch up` makes it."""

    def __init__(self, state: Path) -> None:
        port = free_range(2)
        self.folder = StateFolder(state)
        values = {
            "VOUCH_STATE": str(state),
            "VOUCH_SERVER__GRPC_PORT": str(port),
            "VOUCH_SERVER__HTTP_PORT": str(port + 1),
        }
        self.process = subprocess.Popen(
            [sys.executable, "-m", "services.system"],
            env={**os.environ, **values}, cwd=ROOT, stderr=subprocess.PIPE, text=True, start_new_session=True,
        )  # fmt: skip

    @property
    def record(self) -> Record:
        return Record(**json.loads((self.folder.root / FILE_NAME).read_text()))

    def recorded(self) -> bool:
        return (self.folder.root / FILE_NAME).exists()

    def has(self, words: str) -> bool:
        """Whether a process of the system has these words in its command line."""
        assert self.process.poll() is None
        return self.recorded() and any(words in " ".join(_line(one)) for one in marked(self.record.mark))


def _line(process: psutil.Process) -> list[str]:
    try:
        return list(process.cmdline())
    except psutil.Error:  # it has just ended
        return []


MOMENTS: dict[str, Callable[[Start], bool]] = {
    "before the driver": Start.recorded,
    "when the driver starts": lambda start: start.has("services.driver"),
    "when Ray starts": lambda start: start.has("gcs_server"),
}


@pytest.mark.parametrize("moment", MOMENTS)
def test_a_start_that_is_told_to_end_does_so_and_leaves_nothing(tmp_path: Path, moment: str) -> None:
    start = Start(tmp_path / "state")
    until(lambda: MOMENTS[moment](start), 120)
    record = start.record
    start.process.send_signal(signal.SIGTERM)
    assert start.process.wait(10) == 130
    assert not marked(record.mark)
    assert not Path(record.scratch).exists()
    assert not start.recorded()


def test_nothing_outlives_a_system_that_is_killed(tmp_path: Path) -> None:
    start = Start(tmp_path / "state")
    until(lambda: start.has("gcs_server"), 120)
    record = start.record
    start.process.kill()
    start.process.wait(10)
    until(lambda: not marked(record.mark), 10)
    until(lambda: not Path(record.scratch).exists(), 10)


def test_a_driver_that_is_killed_ends_the_system_with_a_code_of_its_own(tmp_path: Path) -> None:
    start = Start(tmp_path / "state")
    until(lambda: start.has("gcs_server"), 120)
    record = start.record
    driver = next(one for one in marked(record.mark) if "services.driver" in " ".join(_line(one)))
    driver.kill()
    _, said = start.process.communicate(timeout=10)
    assert start.process.returncode == 8
    assert "ended by itself" in said
    assert "Traceback" not in said
    assert not marked(record.mark)
