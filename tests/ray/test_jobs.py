"""Training jobs on a real Ray Train: a killed worker is replaced and ends where an unbroken run does."""

from __future__ import annotations

import contextlib
import json
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest

from services.loopback import is_loopback
from tests.unit.test_reward_training import SMALL, rated_folder
from training.jobs.ray_train import raise_reported, run_on_ray
from training.jobs.worker import Work
from training.loop.session import TrainingSession
from training.reward.config import RewardConfig
from training.reward.fit import fit
from vouch.errors import FailedPrecondition

pytestmark = [pytest.mark.ray, pytest.mark.timeout(900)]

STEPS = 50


def job(folder: Path, out: Path, steps: int = STEPS) -> Work:
    config = RewardConfig(out=out, steps=steps, checkpoint_every=10, **SMALL)
    return Work("reward", config.model_dump(mode="json"), str(folder))


def kill_the_worker_after(checkpoints: Path, killed: list[int]) -> None:
    """Waits for a checkpoint, whichever is seen of those that come and go; ends the worker as a full memory would."""
    deadline = time.monotonic() + 300
    while not killed and time.monotonic() < deadline:
        if any(checkpoints.glob("step-*")):
            for child in psutil.Process().children(recursive=True):
                with contextlib.suppress(psutil.NoSuchProcess):  # it ended while it was looked at
                    if "RayTrainWorker" in " ".join(child.cmdline()):
                        child.kill()
                        killed.append(child.pid)
        threading.Event().wait(0.05)


def until(what: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 300
    while not what():
        assert time.monotonic() < deadline
        threading.Event().wait(0.05)


def is_worker(process: psutil.Process) -> bool:
    try:
        return "RayTrainWorker" in " ".join(process.cmdline())
    except psutil.Error:  # it ended while it was looked at
        return False


@contextlib.contextmanager
def head(work: Work) -> Iterator[subprocess.Popen[bytes]]:
    """The process that starts a run's Ray and waits for the run; killed with the block."""
    code = "import json, sys; from training.jobs.ray_train import run_on_ray; from training.jobs.worker import Work; "
    code += "run_on_ray(Work(**json.loads(sys.argv[1])))"
    process = subprocess.Popen([sys.executable, "-c", code, json.dumps(work.as_json())])
    try:
        yield process
    finally:
        process.kill()
        process.wait()


class Listeners(threading.Thread):
    """Notes on which addresses the training workers below this process listen, until the block ends."""

    def __init__(self) -> None:
        super().__init__(daemon=True)
        self.addresses: set[str] = set()
        self.most_ports = 0
        self._ended = threading.Event()

    def __enter__(self) -> Listeners:
        self.start()
        return self

    def __exit__(self, *exc: object) -> None:
        self._ended.set()
        self.join()

    def run(self) -> None:
        while not self._ended.wait(0.05):
            for child in psutil.Process().children(recursive=True):
                with contextlib.suppress(psutil.Error):  # it ended while it was looked at
                    if "RayTrainWorker" in " ".join(child.cmdline()):
                        self._note(child)

    def _note(self, worker: psutil.Process) -> None:
        ports = [one for one in worker.net_connections(kind="inet") if one.status == psutil.CONN_LISTEN]
        self.addresses |= {port.laddr.ip for port in ports}
        self.most_ports = max(self.most_ports, len(ports))


@pytest.fixture(autouse=True)
def _another_ray_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    """A run that is not told to join a cluster starts its own, whatever Ray the environment names."""
    monkeypatch.setenv("RAY_ADDRESS", "127.0.0.1:9")


def test_a_killed_worker_is_replaced_and_the_run_ends_as_if_nothing_had_happened(tmp_path: Path) -> None:
    folder, killed = rated_folder(tmp_path / "run"), []
    killer = threading.Thread(target=kill_the_worker_after, args=(folder / "reward", killed))
    killer.start()
    raise_reported(run_on_ray(job(folder, tmp_path / "broken")))
    killer.join()
    assert killed, "the run ended before its worker could be killed"
    whole = rated_folder(tmp_path / "whole")
    fit(RewardConfig.model_validate(job(whole, tmp_path / "unbroken").config), TrainingSession(whole))
    weights = [(tmp_path / name / "reward.safetensors").read_bytes() for name in ("broken", "unbroken")]
    assert weights[0] == weights[1]


@pytest.mark.slow
def test_two_workers_share_a_run_and_end_alike_though_one_was_killed(tmp_path: Path) -> None:
    whole, broken, killed = rated_folder(tmp_path / "whole"), rated_folder(tmp_path / "broken"), []
    with Listeners() as listeners:
        run_on_ray(job(whole, tmp_path / "unbroken"), workers=2)
    assert listeners.most_ports >= 3  # Ray's, the store's and gloo's: the group was seen
    assert [address for address in listeners.addresses if not is_loopback(address)] == []
    killer = threading.Thread(target=kill_the_worker_after, args=(broken / "reward", killed))
    killer.start()
    raise_reported(run_on_ray(job(broken, tmp_path / "mended"), workers=2))
    killer.join()
    assert killed, "the run ended before its workers could be killed"
    weights = [(tmp_path / name / "reward.safetensors").read_bytes() for name in ("unbroken", "mended")]
    assert weights[0] == weights[1]


@pytest.mark.slow
def test_a_run_whose_head_is_killed_goes_on_at_its_next_start_and_ends_as_if_nothing_had_happened(
    tmp_path: Path,
) -> None:
    folder, steps = rated_folder(tmp_path / "run"), 24 * STEPS  # some seconds pass before the worker notices
    work = job(folder, tmp_path / "broken", steps)
    with head(work) as process:
        until(lambda: any((folder / "reward").glob("step-*")))
        below = psutil.Process(process.pid).children(recursive=True)
        workers = [child for child in below if is_worker(child)]
    assert process.returncode == -signal.SIGKILL, "the run ended before its head could be killed"
    assert workers
    _, alive = psutil.wait_procs(below, timeout=60)
    for child in alive:
        child.kill()
    assert not set(alive) & set(workers)
    newest = max(int(path.name.partition("-")[2]) for path in (folder / "reward").glob("step-*"))
    assert newest < steps
    raise_reported(run_on_ray(work))
    whole = rated_folder(tmp_path / "whole")
    fit(RewardConfig.model_validate(job(whole, tmp_path / "unbroken", steps).config), TrainingSession(whole))
    weights = [(tmp_path / name / "reward.safetensors").read_bytes() for name in ("broken", "unbroken")]
    assert weights[0] == weights[1]


def test_workers_for_whom_there_is_no_room_are_refused_and_not_waited_for(tmp_path: Path) -> None:
    folder = rated_folder(tmp_path / "run")
    with pytest.raises(FailedPrecondition, match=r"want 1024 GPUs in all, and the cluster has \d+\. Lower"):
        run_on_ray(job(folder, tmp_path / "out"), workers=2, gpus=512.0)


def test_what_a_user_can_cause_reaches_him_as_a_sentence_and_is_not_tried_again(tmp_path: Path) -> None:
    empty = tmp_path / "empty"
    empty.mkdir()
    with pytest.raises(FailedPrecondition, match="needs ratings or labelled real images"):
        raise_reported(run_on_ray(job(empty, tmp_path / "out")))
