"""Training that goes from two workers to one and back: does it end where an undisturbed training ends?

A reward ensemble learns the noisy verdicts of a rater who likes bright images. Trained undisturbed with several seeds,
its log loss on fresh images varies; trained on two Ray nodes of which one is killed and comes back, it has to end
within that noise.
"""

from __future__ import annotations

import json
import math
import os
import signal
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import psutil
import pyarrow as pa
import pyarrow.parquet as pq
from scipy import stats

from benchmarks.cluster.ray_nodes import RayNodes, ray_nodes
from training.inputs.rated import RATINGS_FILE
from training.loop.session import TrainingSession
from training.reward.config import RewardConfig
from training.reward.fit import fit
from vouch.formats import images as codec
from vouch.models.networks.reward import RewardEnsemble

PIXELS, RATED, FRESH = 32, 240, 400
MIDDLE, SOFTNESS = 100.0, 20.0
"""Grey level at which the rater finds every second image plausible, and how gradually they change their mind."""
PATIENCE_S = 420.0
WORKER = "RayTrainWorker"


@dataclass(frozen=True)
class Elastic:
    """Log losses on fresh images, and how many workers were seen one after another."""

    undisturbed: tuple[float, ...]
    disturbed: float
    workers: tuple[int, ...]

    @property
    def interval(self) -> tuple[float, float]:
        """Where one more undisturbed run would end in 95 of 100 cases (Student's t)."""
        count, mean = len(self.undisturbed), float(np.mean(self.undisturbed))
        spread = float(np.std(self.undisturbed, ddof=1)) * math.sqrt(1 + 1 / count)
        wide = float(stats.t.ppf(0.975, count - 1)) * spread
        return mean - wide, mean + wide

    @property
    def is_equal(self) -> bool:
        low, high = self.interval
        return low <= self.disturbed <= high


def measure(folder: Path, *, seeds: int, steps: int) -> Elastic:
    """Train `seeds` times undisturbed in this process, and once on nodes that leave and come back."""
    losses = []
    for seed in range(seeds):
        run = rated(folder / f"run-{seed}")
        settings = config(folder / f"out-{seed}", seed=seed, steps=steps)
        fit(settings, TrainingSession(run))
        losses.append(log_loss(settings.out))
    settings = config(folder / "out", seed=seeds, steps=steps)
    workers = train_on_two_nodes(rated(folder / "run"), settings)
    return Elastic(tuple(losses), log_loss(settings.out), workers)


def config(out: Path, *, seed: int, steps: int) -> RewardConfig:
    return RewardConfig(
        out=out, seed=seed, steps=steps, checkpoint_every=25, threads=1, size=PIXELS, widths=(8, 16), batch=16,
        members=2,
    )  # fmt: skip


# ---- what is learned


def rated(folder: Path) -> Path:
    """A run's folder with ratings."""
    folder.mkdir(parents=True)
    pixels, verdicts = cells(RATED, 0)
    rows = [
        {
            "image": codec.encode_png(image), "prompt": "neutrophil", "digest": str(number), "overall": verdict,
            "criteria": json.dumps({"cell_size": verdict}), "ratings": json.dumps([str(number)]), "kinds": '["human"]',
        }
        for number, (image, verdict) in enumerate(zip(pixels, verdicts.tolist(), strict=True))
    ]  # fmt: skip
    pq.write_table(pa.Table.from_pylist(rows), folder / RATINGS_FILE)
    return folder


def cells(count: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Noisy grey images [count, H, W, 3] (uint8), and a verdict on each, 0 or 1."""
    rng = np.random.default_rng(seed)
    grey = rng.uniform(10, 190, count)
    noise = rng.integers(0, 60, (count, PIXELS, PIXELS, 3))
    verdicts = rng.random(count) < 1 / (1 + np.exp((MIDDLE - grey) / SOFTNESS))
    return (noise + grey[:, None, None, None]).clip(0, 255).astype(np.uint8), verdicts.astype(float)


def log_loss(out: Path) -> float:
    """Of the ensemble's scores for fresh images, in nats."""
    pixels, verdicts = cells(FRESH, 1)
    found = RewardEnsemble.load(out).score(pixels, ["neutrophil"] * FRESH).overall.clip(1e-4, 1 - 1e-4)
    return float(-np.mean(verdicts * np.log(found) + (1 - verdicts) * np.log(1 - found)))


# ---- two workers, one, two again


def train_on_two_nodes(run: Path, settings: RewardConfig) -> tuple[int, ...]:
    """Train on two nodes with one worker each, kill one node, and bring it back. The numbers of workers seen."""
    from training.jobs.ray_train import raise_reported, run_on_ray
    from training.jobs.worker import Work

    job = Work("reward", settings.model_dump(mode="json"), str(run))
    with ray_nodes({}, cpus=(1, 1)) as nodes:
        os.environ.update(nodes.environment)
        disturber = _Disturber(nodes, run / "reward")
        disturber.start()
        raise_reported(run_on_ray(job, workers=2, min_workers=1, cpus=1, resize_s=1.0))
        disturber.join()
    if disturber.failure is not None:
        raise RuntimeError(
            f"the run could not be disturbed: workers seen {disturber.seen}"
        ) from disturber.failure
    return tuple(disturber.seen)


class _Disturber(threading.Thread):
    """Kills the second node when both workers train, and adds one again when one worker trains alone."""

    def __init__(self, nodes: RayNodes, checkpoints: Path) -> None:
        super().__init__(name="disturber", daemon=True)
        self._nodes, self._checkpoints = nodes, checkpoints
        self.seen: list[int] = []
        self.failure: BaseException | None = None

    def run(self) -> None:
        try:
            self._disturb()
        except BaseException as failure:  # noqa: BLE001 - it belongs to the thread that waits for us
            self.failure = failure

    def _disturb(self) -> None:
        both = self._until_training_with(2, [])
        self._nodes.kill(next(iter(self._nodes.cluster.worker_nodes)))
        (alone,) = self._until_training_with(1, both)
        # The run must not end before Ray Train has heard of the node, up to 20 s after it is there: its worker stands
        # still until it is replaced.
        alone.send_signal(signal.SIGSTOP)
        try:
            self._nodes.add(1)
            self._until_training_with(2, [alone])
        finally:
            with suppress(psutil.NoSuchProcess):
                alone.send_signal(signal.SIGCONT)

    def _until_training_with(self, count: int, before: list[psutil.Process]) -> list[psutil.Process]:
        """Wait until so many workers, none of those before, have made a checkpoint together."""
        _until(lambda: len(_workers()) == count and not set(before) & set(_workers()))
        step = self._step()
        _until(lambda: self._step() > step)
        self.seen.append(count)
        return _workers()

    def _step(self) -> int:
        """Of the newest checkpoint; 0 without one."""
        return max((int(path.name.partition("-")[2]) for path in self._checkpoints.glob("step-*")), default=0)


def _until(what: Callable[[], bool]) -> None:
    deadline = time.monotonic() + PATIENCE_S
    while not what():
        if time.monotonic() > deadline:
            raise TimeoutError(f"it did not happen in {PATIENCE_S:.0f} s")
        time.sleep(0.05)


def _workers() -> list[psutil.Process]:
    """The training workers below this process. Ray names them when they have started."""
    found = []
    for child in psutil.Process().children(recursive=True):
        with suppress(psutil.Error):  # it ended while it was looked at
            if WORKER in " ".join(child.cmdline()):
                found.append(child)
    return found
