"""Training where a cluster keeps its records: PostgreSQL, and an object store for images and versions."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from services.jobs.runner import training_command, training_environment
from tests.tiny import save_reward
from tests.unit.test_reward_training import SMALL, cell
from training.jobs.plans import Store
from vouch.domains.criteria import Domain
from vouch.formats import images as codec
from vouch.storage.registry import Registry
from vouch.types.rating import NewRating

pytestmark = [pytest.mark.ray, pytest.mark.timeout(900), pytest.mark.slow]


def fill(store: Store, make_image: Callable, domain: Domain, tmp_path: Path, count: int = 40) -> None:
    """A champion, and verdicts of an expert who likes bright images."""
    version = store.registry.publish(
        save_reward(tmp_path / "reward", 1), kind="reward", format="reward", name="reward-start"
    )
    store.catalog.serving.ensure("reward", version.digest)
    for number in range(count):
        data = codec.encode_png(cell(number % 2 == 0, number))
        record = make_image(number, digest=store.blobs.put(data), size_bytes=len(data))
        store.catalog.images.add([record])
        verdict = "plausible" if number % 2 == 0 else "implausible"
        rating = NewRating(
            request_id=str(number), image=record.digest, rater="ada", kind="human", verdict=verdict  # type: ignore[arg-type]
        )  # fmt: skip
        store.catalog.ratings.record(rating, domain)


def test_a_queued_run_is_carried_out_where_the_settings_keep_everything(
    settings, make_image, domain, tmp_path
):
    store = Store.open(settings)
    fill(store, make_image, domain, tmp_path)
    run = store.catalog.runs.create("reward", {"steps": 20, **SMALL}, request_id="asked")

    environment = {
        **{name: value for name, value in os.environ.items() if not name.startswith("VOUCH_")},
        **training_environment(settings),
        "RAY_TRAIN_HEALTH_CHECK_INTERVAL_S": "0.5",
    }
    command = training_command(run.run_id)
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=800, check=False)

    run = store.catalog.runs.get(run.run_id)
    assert (done.returncode, run.state, run.error) == (0, "SUCCEEDED", ""), done.stderr[-2000:]
    version = store.catalog.versions.get(run.version)
    assert version.lineage["run_id"] == run.run_id and len(version.lineage["ratings"]) == 40
    if settings.models_url:
        there = Registry(store.catalog, tmp_path / "elsewhere", settings.models_url)
        assert (there.open(version.digest) / "reward.safetensors").is_file()
        assert not (settings.folder.root / "catalog.db").exists()
        assert not list(settings.folder.blobs.iterdir())


def test_the_queue_is_drained_by_one_job_at_a_time(settings):
    store = Store.open(settings)
    store.catalog.runs.create("reward", {"parent": "nowhere"}, request_id="a")
    store.catalog.runs.create("reward", {"parent": "nowhere"}, request_id="b")
    environment = {**os.environ, **training_environment(settings)}
    command = [sys.executable, "-m", "training.run", "--queued"]
    with store.catalog.runs.queue() as alone:
        assert alone
        idle = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
        assert idle.stdout == "carried out 0 runs\n"
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert done.stdout == "carried out 2 runs\n"
    states = [run.state for run in store.catalog.runs.list().items]
    assert states == ["FAILED", "FAILED"]
