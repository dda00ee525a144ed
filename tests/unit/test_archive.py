"""Versions in an object store: what one machine publishes, every other opens."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from benchmarks.cluster import races
from tests.conftest import _emptied
from vouch.errors import CorruptVersion, NotFound
from vouch.storage.archive import VersionArchive
from vouch.storage.catalog import Catalog
from vouch.storage.objects import object_path
from vouch.storage.registry import MANIFEST, Registry
from vouch.types.version import Version


@pytest.fixture
def catalog(postgres: str) -> Iterator[Catalog]:
    with Catalog(_emptied(postgres)) as opened:
        yield opened


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    made = tmp_path / "trained"
    (made / "unet").mkdir(parents=True)
    (made / "unet" / "config.json").write_text('{"channels": 4}')
    (made / "model_index.json").write_text("{}")
    return made


def publish(registry: Registry, folder: Path, **values: str) -> Version:
    return registry.publish(folder, kind="generator", format="diffusers", **values)  # type: ignore[arg-type]


def test_another_machine_opens_what_one_has_published(catalog, bucket, folder, tmp_path):
    here, there = (Registry(catalog, tmp_path / name, f"{bucket}/models") for name in ("here", "there"))
    version = publish(here, folder)
    opened = there.open(version.name)
    assert opened == tmp_path / "there" / version.digest
    assert (opened / "unet" / "config.json").read_text() == '{"channels": 4}'

    here.attach_evidence(version.name, {"gate": {"verdict": "pass"}})
    assert there.evidence(version.name) == {"gate": {"verdict": "pass"}}


def test_a_version_is_copied_once(catalog, bucket, folder, tmp_path):
    publish(Registry(catalog, tmp_path / "here", f"{bucket}/models"), folder)
    there = Registry(catalog, tmp_path / "there", f"{bucket}/models")
    first = there.open("generator-1")
    object_path(f"{bucket}/models").fs.rm(f"{bucket}/models", recursive=True)
    assert there.open("generator-1") == first


def test_a_version_that_was_damaged_in_the_store_is_told_and_not_kept(catalog, bucket, folder, tmp_path):
    version = publish(Registry(catalog, tmp_path / "here", f"{bucket}/models"), folder)
    object_path(f"{bucket}/models/{version.digest}/unet/config.json").write_bytes(b'{"channels": 5}')
    there = Registry(catalog, tmp_path / "there", f"{bucket}/models")
    with pytest.raises(CorruptVersion, match=r"unet/config\.json has changed"):
        there.open(version.name)
    assert not list((tmp_path / "there").iterdir())


def test_a_version_whose_files_are_gone_is_not_found(catalog, bucket, folder, tmp_path):
    version = publish(Registry(catalog, tmp_path / "here", f"{bucket}/models"), folder)
    VersionArchive(f"{bucket}/models").remove(version.digest)
    with pytest.raises(NotFound, match="backup"):
        Registry(catalog, tmp_path / "there", f"{bucket}/models").open(version.name)


def test_of_two_writers_of_one_digest_one_owns_it(bucket, folder):
    (folder / MANIFEST).write_text("{}")
    writers = [VersionArchive(f"{bucket}/models") for _ in range(2)]
    assert [writer.put(folder, "a" * 64) for writer in writers] == [True, False]


def test_a_folder_without_a_manifest_is_not_there(bucket, tmp_path):
    archive = VersionArchive(f"{bucket}/models")
    object_path(f"{bucket}/models/{'b' * 64}/weights.json").write_bytes(b"half")
    assert not archive.fetch("b" * 64, ["weights.json"], tmp_path)


@pytest.mark.parametrize("clock", ["own", "same"])
def test_two_processes_that_publish_the_same_name_never_leave_half_of_a_version(clock, settings, tmp_path):
    Catalog(settings.resolved_catalog_url).close()
    outcomes = races.run(settings.resolved_catalog_url, settings.models_url, tmp_path, races=15, clock=clock)
    assert outcomes.wrong == []
    assert outcomes.both + outcomes.one == 15
