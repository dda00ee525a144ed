from __future__ import annotations

import itertools
import os
import subprocess
import sys
import textwrap
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path

import pytest

from services.jobs.runner import Runner, last_line, training_command, training_environment
from vouch.errors import Unavailable
from vouch.settings import Settings, TrainingSettings, settings_of_snapshot
from vouch.storage.catalog import Catalog
from vouch.storage.state import StateFolder
from vouch.types.run import Run

FINISHES = """
    from vouch.storage.catalog import Catalog
    catalog = Catalog({url!r})
    catalog.runs.start({run!r})
    catalog.runs.finish({run!r}, "SUCCEEDED", metrics={{"niceness": __import__("os").nice(0)}})
"""
CRASHES = 'print("loading"); raise SystemExit("the data set is gone")'
WAITS = """
    import time
    from vouch.storage.catalog import Catalog
    Catalog({url!r}).runs.start({run!r})
    time.sleep(600)
"""
STUBBORN = """
    import signal, time
    from vouch.storage.catalog import Catalog
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    Catalog({url!r}).runs.start({run!r})
    time.sleep(600)
"""

KILLED_ONCE = """
    import os, signal
    from vouch.storage.catalog import Catalog
    catalog = Catalog({url!r})
    if catalog.runs.start({run!r}).attempt == 1:
        os.kill(os.getpid(), signal.SIGKILL)
    catalog.runs.finish({run!r}, "SUCCEEDED")
"""
ENDED_BY = """
    import os, signal
    from vouch.storage.catalog import Catalog
    Catalog({url!r}).runs.start({run!r})
    os.kill(os.getpid(), signal.NAME)
"""
FINISHES_WHEN_TOLD = """
    import pathlib, time
    from vouch.storage.catalog import Catalog
    catalog = Catalog({url!r})
    catalog.runs.start({run!r})
    while not pathlib.Path("FILE").exists():
        time.sleep(0.02)
    catalog.runs.finish({run!r}, "SUCCEEDED")
"""


@pytest.fixture
def folder(settings: Settings) -> StateFolder:
    return settings.folder


@pytest.fixture
def make_runner(catalog: Catalog, catalog_url: str, folder: StateFolder) -> Iterator[Callable[[str], Runner]]:
    runners: list[Runner] = []

    def make(script: str) -> Runner:
        def command(run_id: str) -> list[str]:
            return [sys.executable, "-c", textwrap.dedent(script).format(url=catalog_url, run=run_id)]

        runner = Runner(catalog, folder, command, niceness=3, poll_s=0.05, grace_s=0.5)
        runners.append(runner)
        runner.start()
        return runner

    yield make
    for runner in runners:
        runner.stop()


def wait_for(catalog: Catalog, run_id: str, condition: Callable[[Run], bool]) -> Run:
    deadline = time.monotonic() + 120
    while True:
        run = catalog.runs.get(run_id)
        if condition(run):
            return run
        assert time.monotonic() < deadline, f"still {run.state}"
        time.sleep(0.05)


def test_a_run_is_executed_behind_everything_else(catalog, make_runner):
    run = catalog.runs.create("reward", {}, request_id="1")
    make_runner(FINISHES)
    ended = wait_for(catalog, run.run_id, lambda run: run.ended)
    assert (ended.state, ended.attempt) == ("SUCCEEDED", 1)
    assert ended.metrics["niceness"] == os.nice(0) + 3


def test_a_process_that_dies_leaves_a_failed_run_with_its_last_words(catalog, make_runner):
    run = catalog.runs.create("reward", {}, request_id="1")
    make_runner(CRASHES)
    ended = wait_for(catalog, run.run_id, lambda run: run.ended)
    assert ended.state == "FAILED"
    assert "ended with exit code 1" in ended.error
    assert "the data set is gone" in ended.error


def test_a_run_whose_process_is_killed_is_started_again_and_counts_it(catalog, make_runner):
    run = catalog.runs.create("reward", {}, request_id="1")
    make_runner(KILLED_ONCE)
    ended = wait_for(catalog, run.run_id, lambda run: run.ended)
    assert (ended.state, ended.attempt) == ("SUCCEEDED", 2)
    assert ended.message == "started again after SIGKILL (1 of 2)"


@pytest.mark.parametrize(("name", "attempts"), [("SIGKILL", 3), ("SIGTERM", 1)])
def test_a_run_fails_that_is_killed_over_and_over_or_ended_on_purpose(catalog, make_runner, name, attempts):
    run = catalog.runs.create("reward", {}, request_id="1")
    make_runner(ENDED_BY.replace("NAME", name))
    ended = wait_for(catalog, run.run_id, lambda run: run.ended)
    assert (ended.state, ended.attempt) == ("FAILED", attempts)
    assert f"was ended by {name} before it was done" in ended.error
    assert ("after 2 restarts" in ended.error) == (attempts == 3)


def test_a_run_outlasts_a_failover_of_the_catalog(catalog, make_runner, monkeypatch, tmp_path):
    """The runner meets three failures while the process works; then the process may end."""
    get, failures = catalog.runs.get, itertools.count(1)

    def fail_three_times(run_id: str) -> Run:
        if get(run_id).state == "RUNNING" and (number := next(failures)) <= 3:
            if number == 3:
                (tmp_path / "end").touch()
            raise Unavailable("The catalog's database does not answer.")
        return get(run_id)

    run = catalog.runs.create("reward", {}, request_id="1")
    with monkeypatch.context() as patch:
        patch.setattr(catalog.runs, "get", fail_three_times)
        runner = make_runner(FINISHES_WHEN_TOLD.replace("FILE", str(tmp_path / "end")))
        deadline = time.monotonic() + 120
        while not (ended := get(run.run_id)).ended:
            assert time.monotonic() < deadline
            time.sleep(0.05)
        runner.stop()
    assert (ended.state, ended.attempt) == ("SUCCEEDED", 1)


class CountedQueue:
    """The queue of a catalog, and how often it was asked for. The first `lost` holds are no longer the database's."""

    def __init__(self, catalog: Catalog, lost: int = 0) -> None:
        self._real, self._lost, self._looks = catalog.runs.queue, lost, threading.Semaphore(0)

    def __call__(self) -> AbstractContextManager[bool]:
        self._looks.release()
        self._lost -= 1
        return nullcontext(True) if self._lost >= 0 else self._real()

    def wait_for(self, looks: int) -> None:
        for _ in range(looks):
            assert self._looks.acquire(timeout=120)


def test_one_of_two_systems_on_a_catalog_carries_out_its_runs(catalog, catalog_url, make_runner, monkeypatch):
    queue = CountedQueue(catalog)
    monkeypatch.setattr(catalog.runs, "queue", queue)
    run = catalog.runs.create("reward", {}, request_id="1")
    with Catalog(catalog_url) as other, other.runs.queue():
        make_runner(FINISHES)
        queue.wait_for(looks=3)
        assert catalog.runs.get(run.run_id).state == "QUEUED"
    assert wait_for(catalog, run.run_id, lambda run: run.ended).attempt == 1


def test_a_run_that_another_system_has_taken_over_is_left_to_it(
    catalog, catalog_url, make_runner, monkeypatch
):
    queue = CountedQueue(catalog, lost=1)  # with the connection to the database
    monkeypatch.setattr(catalog.runs, "queue", queue)
    run = catalog.runs.create("reward", {}, request_id="1")
    with Catalog(catalog_url) as other, other.runs.queue():
        runner = make_runner(WAITS)
        wait_for(catalog, run.run_id, lambda run: run.state == "RUNNING")
        other.runs.start(run.run_id)
        queue.wait_for(looks=3)
        runner.stop()
    latest = catalog.runs.get(run.run_id)
    assert (latest.state, latest.attempt) == ("RUNNING", 2)


@pytest.mark.parametrize("script", [WAITS, STUBBORN], ids=["willing", "stubborn"])
def test_a_cancelled_run_is_ended_whether_it_wants_or_not(catalog, make_runner, script):
    run = catalog.runs.create("reward", {}, request_id="1")
    runner = make_runner(script)
    wait_for(catalog, run.run_id, lambda run: run.state == "RUNNING")
    catalog.runs.cancel(run.run_id, request_id="2")
    runner.notify()
    assert wait_for(catalog, run.run_id, lambda run: run.ended).state == "CANCELLED"


def test_runs_are_executed_one_at_a_time_oldest_first(catalog, make_runner):
    runs = [catalog.runs.create("reward", {"n": n}, request_id=str(n)) for n in range(3)]
    make_runner(FINISHES)
    ended = [wait_for(catalog, run.run_id, lambda run: run.ended) for run in runs]
    assert [run.state for run in ended] == ["SUCCEEDED"] * 3
    for earlier, later in itertools.pairwise(ended):
        assert earlier.ended_at <= later.started_at


def test_a_run_that_the_system_left_behind_is_resumed_by_the_next(catalog, make_runner):
    run = catalog.runs.create("reward", {}, request_id="1")
    runner = make_runner(WAITS)
    wait_for(catalog, run.run_id, lambda run: run.state == "RUNNING")
    runner.stop()
    assert catalog.runs.get(run.run_id).state == "RUNNING"
    make_runner(FINISHES)
    ended = wait_for(catalog, run.run_id, lambda run: run.ended)
    assert (ended.state, ended.attempt) == ("SUCCEEDED", 2)


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux ends a child with its parent")
def test_a_training_process_dies_with_whoever_started_it(tmp_path):
    note = tmp_path / "pid"
    child = f"import os, time; open({str(note)!r}, 'w').write(str(os.getpid())); time.sleep(600)"
    parent = f"""
        import os, subprocess, sys, time
        launch = ["-m", "services.jobs.launch", "0", str(os.getpid())]
        subprocess.Popen([sys.executable, *launch, sys.executable, "-c", {child!r}])
        while not os.path.exists({str(note)!r}) or not open({str(note)!r}).read(): time.sleep(0.02)
        os.kill(os.getpid(), 9)
    """
    subprocess.run(
        [sys.executable, "-c", textwrap.dedent(parent)], cwd=Path(__file__).parents[2], check=False
    )
    deadline = time.monotonic() + 30
    while _lives(int(note.read_text())):
        assert time.monotonic() < deadline
        time.sleep(0.05)


def _lives(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().split()[2] != "Z"
    except FileNotFoundError:
        return False


def test_the_last_line_of_a_log_is_the_last_with_text(tmp_path):
    log = tmp_path / "log"
    assert last_line(log) == ""
    log.write_text("one\ntwo\n\n")
    assert last_line(log) == "two"


def test_a_run_is_told_every_setting_of_its_system(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    settings = Settings(
        state=tmp_path / "state",
        catalog_url="postgresql://user:secret@host/vouch",
        models_url="s3://bucket/models",
        domain="x-rays.json",
        training=TrainingSettings(workers=3, gpus=0.5),
    )
    monkeypatch.setenv("VOUCH_CATALOG_URL", "sqlite:///elsewhere.db")
    told = settings_of_snapshot(training_environment(settings)["VOUCH_SNAPSHOT"])
    assert told == settings
    assert "secret" not in " ".join(training_command("run-1"))
