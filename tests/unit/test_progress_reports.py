"""What a training tells the catalog of its progress."""

from __future__ import annotations

from pathlib import Path

import pytest

from training.jobs.worker import Work, _run_reporter
from training.loop.progress import TrainingProgress
from vouch.errors import Exhausted, Unavailable, VouchError
from vouch.storage.catalog import Catalog
from vouch.storage.catalog.runs import Runs


def told(step: int) -> TrainingProgress:
    return TrainingProgress(step=step, total_steps=10, message="learning")


@pytest.mark.parametrize("failure", [Unavailable("It does not answer."), Exhausted("It has no connections.")])
def test_a_training_goes_on_while_the_catalog_is_away(
    catalog: Catalog, catalog_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, failure: VouchError
) -> None:
    def fail(*_: object, **__: object) -> None:
        raise failure

    run = catalog.runs.start(catalog.runs.create("reward", {}, request_id="1").run_id)
    report = _run_reporter(Work("reward", {}, str(tmp_path), catalog_url, run.run_id))
    with monkeypatch.context() as patch:
        patch.setattr(Runs, "progress", fail)
        assert report(told(step=1))
    assert report(told(step=2))
    assert catalog.runs.get(run.run_id).step == 2


def test_a_training_ends_when_its_run_is_cancelled(
    catalog: Catalog, catalog_url: str, tmp_path: Path
) -> None:
    run = catalog.runs.start(catalog.runs.create("reward", {}, request_id="1").run_id)
    report = _run_reporter(Work("reward", {}, str(tmp_path), catalog_url, run.run_id))
    assert report(told(step=1))
    catalog.runs.cancel(run.run_id)
    assert not report(told(step=2))
