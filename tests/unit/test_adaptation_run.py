"""An adaptation as a run of a system: from a folder to a version that serves any words, with its lineage."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from services.generation.models import Loader
from tests.foundations import save_chests, save_foundation
from training.jobs.plans import Store
from training.jobs.worker import Work, work
from training.run import execute
from vouch.errors import InvalidInput
from vouch.settings import Settings
from vouch.types.version import Version

ASKED: dict[str, Any] = {
    "steps": 2,
    "batch": 4,
    "threads": 1,
    "rank": 2,
    "lr": 1e-2,
    "validate_every": 2,
    "keep_vae": True,
}


@pytest.fixture
def store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Store]:
    monkeypatch.setenv("VOUCH_DOMAIN", "chest_xray")
    save_foundation(tmp_path / "base", "2.x")
    save_chests(tmp_path / "chests")
    (tmp_path / "state").mkdir()
    opened = Store.open(Settings(state=tmp_path / "state"))
    yield opened
    opened.catalog.close()


def here(job: Work) -> dict[str, Any]:
    """The loop in this process, as a worker without a catalog runs it."""
    return dict(work(replace(job, catalog_url="", run_id="")))


def adapted(store: Store, root: Path, **settings: object) -> Version:
    asked = {**ASKED, "base": str(root / "base"), "data": str(root / "chests"), **settings}
    run = store.catalog.runs.create("adapt", asked, request_id=f"{settings}")
    return execute(Settings(state=root / "state"), run.run_id, here)


def test_a_lora_is_published_upon_its_base_and_serves_any_words(store: Store, tmp_path: Path) -> None:
    version = adapted(store, tmp_path)
    parent = store.registry.get(version.parent)
    assert (version.kind, version.format, parent.name) == ("generator", "lora", "generator-base")
    assert version.lineage["base"] == parent.digest and version.lineage["data"]["images"]
    assert version.lineage["command"].startswith("vouch adapt --steps 2")
    assert version.lineage["metrics"]["validation_images"] > 0
    served = Loader(store.registry).load(version.digest)
    assert served.describe().open_vocabulary and served.label("whatever a radiologist says") == ""
    base = Loader(store.registry).load(parent.digest)
    images = [one.generator.generate(["a bright chest"], [1], 4, 3.0) for one in (served, base)]
    assert not np.array_equal(*images)


def test_all_weights_are_a_whole_folder_and_a_lora_upon_a_lora_becomes_one(
    store: Store, tmp_path: Path
) -> None:
    whole = adapted(store, tmp_path, rank=0, name="whole")
    assert whole.format == "diffusers" and whole.lineage["base"] == whole.parent
    lora = adapted(store, tmp_path, name="lora")
    further = adapted(store, tmp_path, base=None, parent=lora.digest, name="further")
    assert (lora.format, further.format, further.parent) == ("lora", "diffusers", lora.digest)
    assert Loader(store.registry).load(further.digest).describe().open_vocabulary


@pytest.mark.parametrize(
    ("base", "says"),
    [
        ("stabilityai/stable-diffusion-2-1", "vouch downloads no model: fetch it .*hf download stabilityai"),
        ("chests", "holds no model_index.json"),
    ],
)
def test_a_base_that_is_not_there_ends_the_run_with_one_sentence(
    store: Store, tmp_path: Path, base: str, says: str
) -> None:
    given = str(tmp_path / base) if base == "chests" else base
    with pytest.raises(InvalidInput, match=says):
        adapted(store, tmp_path, base=given)
