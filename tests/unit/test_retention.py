"""`vouch gc`: what may go by the policy, and what never does."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable, Iterator
from datetime import timedelta
from pathlib import Path

import pytest
from typer.testing import CliRunner

from vouch.cli.main import root
from vouch.domains.criteria import Domain
from vouch.errors import FailedPrecondition
from vouch.settings import RetentionSettings, Settings
from vouch.storage import retention
from vouch.storage.blobs import BlobStore
from vouch.storage.catalog import Catalog
from vouch.storage.outbox import Outbox, Unfiled
from vouch.storage.registry import Registry
from vouch.storage.retention import Garbage, find_garbage, remove_garbage
from vouch.types.clock import now
from vouch.types.image import ImageRecord
from vouch.types.rating import NewRating, Preference
from vouch.types.review import HandedOut

YEAR_S = 365 * 86400.0
NOBODY = 2**31 - 1
"""No process has this number."""


@pytest.fixture
def settings(settings: Settings) -> Settings:
    """A system on either database whose files lie in its state folder."""
    month = RetentionSettings(images_days=30)
    return settings.model_copy(update={"blobs_url": "", "models_url": "", "retention": month})


@pytest.fixture
def opened(settings: Settings) -> Iterator[Catalog]:
    with Catalog(settings.resolved_catalog_url) as catalog:
        yield catalog


def aged(path: Path) -> Path:
    for one in (*path.rglob("*"), path) if path.is_dir() else (path,):
        os.utime(one, (time.time() - YEAR_S, time.time() - YEAR_S))
    return path


def written(path: Path, data: bytes = b"x") -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)
    return path


def blob_path(settings: Settings, digest: str) -> Path:
    return settings.folder.blobs / digest[:2] / digest[2:]


def stored(settings: Settings, data: bytes) -> str:
    digest = BlobStore(settings.resolved_blobs_url).put(data)
    aged(blob_path(settings, digest))
    return digest


def found(settings: Settings, catalog: Catalog) -> set[tuple[str, Path]]:
    return {(one.kind, one.path) for one in find_garbage(settings, catalog)}


def collect(settings: Settings, catalog: Catalog) -> list[Garbage]:
    return remove_garbage(settings, catalog, find_garbage(settings, catalog))


def test_an_old_blob_that_nothing_names_goes_and_a_named_or_young_one_stays(
    settings: Settings, opened: Catalog, make_image: Callable[..., ImageRecord]
) -> None:
    named, unnamed = stored(settings, b"named"), stored(settings, b"unnamed")
    young = BlobStore(settings.resolved_blobs_url).put(b"young")
    opened.images.add([make_image(1, digest=named)])
    assert found(settings, opened) == {("blob", blob_path(settings, unnamed))}
    assert blob_path(settings, unnamed).exists()  # finding removes nothing
    assert [one.digest for one in collect(settings, opened)] == [unnamed]
    blobs = BlobStore(settings.resolved_blobs_url)
    assert (blobs.exists(named), blobs.exists(young), blobs.exists(unnamed)) == (True, True, False)
    assert opened.audit.list().items[0].details == {"blob": {"count": 1, "bytes": 7}}


def test_what_may_go_is_in_the_audit_log_before_anything_goes(
    settings: Settings, opened: Catalog, monkeypatch: pytest.MonkeyPatch
) -> None:
    stored(settings, b"unnamed")
    monkeypatch.setattr(
        "vouch.storage.retention._remove_blob", lambda *_: pytest.fail("the process ends here")
    )
    with pytest.raises(pytest.fail.Exception):
        collect(settings, opened)
    assert [entry.action for entry in opened.audit.entries()] == ["gc"]


def test_an_image_that_waits_for_the_catalog_is_filed_before_anything_goes(
    settings: Settings, opened: Catalog, make_image: Callable[..., ImageRecord]
) -> None:
    waiting = make_image(1, digest=stored(settings, b"drawn while the catalog was away"))
    Outbox(BlobStore(settings.resolved_outbox_url)).put(Unfiled(owner="", records=(waiting,)))
    assert collect(settings, opened) == []
    assert blob_path(settings, waiting.digest).exists()
    assert opened.images.get(waiting.digest) == waiting


def test_a_blob_that_is_stored_again_meanwhile_stays(
    settings: Settings, opened: Catalog, make_image: Callable[..., ImageRecord]
) -> None:
    touched, named = stored(settings, b"touched"), stored(settings, b"named meanwhile")
    garbage = find_garbage(settings, opened)
    BlobStore(settings.resolved_blobs_url).put(b"touched")
    opened.images.add([make_image(1, digest=named)])
    assert len(garbage) == 2
    assert remove_garbage(settings, opened, garbage) == []
    assert blob_path(settings, touched).read_bytes() == b"touched"
    assert blob_path(settings, named).read_bytes() == b"named meanwhile"


def test_a_blob_that_a_killed_removal_had_put_aside_comes_back(settings: Settings, opened: Catalog) -> None:
    path = blob_path(settings, BlobStore(settings.resolved_blobs_url).put(b"young"))
    path.rename(path.with_name(f".gc-{path.name}"))
    assert found(settings, opened) == set()
    assert path.read_bytes() == b"young"


@pytest.fixture
def kept(
    settings: Settings,
    opened: Catalog,
    tmp_path: Path,
    domain: Domain,
    make_image: Callable[..., ImageRecord],
    make_rating: Callable[..., NewRating],
) -> dict[str, str]:
    """Old images by what keeps them; "nothing" keeps the last."""
    names = ("rated", "preferred", "handed out", "in a lineage", "in a run", "real", "nothing")
    digests = {name: stored(settings, name.encode()) for name in names}
    old = now() - timedelta(days=365)
    for number, (name, digest) in enumerate(digests.items()):
        source = "real" if name == "real" else "generated"
        request = {"request_id": f"request-{number}", "created_at": old, "source": source}
        opened.images.add([make_image(number, digest=digest, **request)], owner="client")
    liked = Preference(other=digests["preferred"], preferred=digests["preferred"])
    opened.ratings.record(make_rating(digests["rated"], preference=liked), domain)
    opened.reviews.add(
        [
            HandedOut(
                image=digests["handed out"],
                rater="a",
                kind="human",
                stratum="uniform",
                propensity=1.0,
                created_at=old,
            )
        ]
    )
    written(tmp_path / "model" / "weights.safetensors")
    lineage = {"pictures": {"seen": [digests["in a lineage"]]}}
    Registry(opened, settings.folder.models).publish(
        tmp_path / "model", kind="generator", format="diffusers", lineage=lineage
    )
    run = opened.runs.create("reward", {}, request_id="one")
    opened.runs.freeze_inputs(run.run_id, {"images": [digests["in a run"]]})
    return digests


def test_of_old_images_only_those_go_that_nobody_rated_handed_out_or_learned_from(
    settings: Settings, opened: Catalog, kept: dict[str, str]
) -> None:
    assert [(one.kind, one.digest) for one in collect(settings, opened)] == [("image", kept["nothing"])]
    left = {image.digest for image in opened.images.list().items}
    assert left == set(kept.values()) - {kept["nothing"]}
    assert all(blob_path(settings, digest).exists() for digest in left)
    assert not blob_path(settings, kept["nothing"]).exists()
    assert collect(settings, opened) == []


def test_images_stay_for_ever_unless_a_setting_says_how_long(
    settings: Settings, opened: Catalog, kept: dict[str, str]
) -> None:
    assert found(settings.model_copy(update={"retention": RetentionSettings()}), opened) == set()


def test_an_image_that_is_rated_before_it_goes_stays(
    settings: Settings,
    opened: Catalog,
    kept: dict[str, str],
    domain: Domain,
    make_rating: Callable[..., NewRating],
) -> None:
    garbage = find_garbage(settings, opened)
    opened.ratings.record(make_rating(kept["nothing"]), domain)
    assert remove_garbage(settings, opened, garbage) == []
    assert BlobStore(settings.resolved_blobs_url).get(kept["nothing"]) == b"nothing"


def test_images_do_not_go_while_the_system_runs(
    settings: Settings, opened: Catalog, kept: dict[str, str]
) -> None:
    with settings.folder.lock(), pytest.raises(FailedPrecondition) as refused:
        collect(settings, opened)
    assert refused.value.reason == "STATE_IN_USE"
    assert opened.images.get(kept["nothing"])


def test_a_version_folder_without_an_entry_goes_and_a_version_stays(
    settings: Settings, opened: Catalog, tmp_path: Path
) -> None:
    written(tmp_path / "model" / "weights.safetensors")
    version = Registry(opened, settings.folder.models).publish(
        tmp_path / "model", kind="generator", format="diffusers"
    )
    orphan = written(settings.folder.models / ("a" * 64) / "weights").parent
    young = written(settings.folder.models / ("b" * 64) / "weights").parent
    aged(orphan), aged(settings.folder.models / version.digest)
    assert found(settings, opened) == {("version folder", orphan)}
    collect(settings, opened)
    assert young.is_dir()
    assert Registry(opened, settings.folder.models).open(version.digest)


def ended_run(opened: Catalog, settings: Settings, monkeypatch: pytest.MonkeyPatch, days: float) -> Path:
    run = opened.runs.create("reward", {}, request_id=f"{days}")
    opened.runs.start(run.run_id)
    with monkeypatch.context() as past:
        past.setattr("vouch.storage.catalog.runs.now", lambda: now() - timedelta(days=days))
        opened.runs.finish(run.run_id, "SUCCEEDED")
    folder = settings.folder.run(run.run_id)
    written(folder / "checkpoints" / "step-00000010" / "tensors.safetensors")
    written(folder / "run.log")
    return folder


def test_checkpoints_go_a_week_and_folders_a_season_after_a_run_has_ended(
    settings: Settings, opened: Catalog, monkeypatch: pytest.MonkeyPatch
) -> None:
    today = ended_run(opened, settings, monkeypatch, 0)
    month, year = (ended_run(opened, settings, monkeypatch, days) for days in (30, 365))
    running = opened.runs.create("reward", {}, request_id="open").run_id
    opened.runs.start(running)
    open_one = aged(written(settings.folder.run(running) / "step-00000001" / "tensors.safetensors").parent)
    assert found(settings, opened) == {
        ("checkpoint", month / "checkpoints" / "step-00000010"),
        ("run folder", year),
    }
    collect(settings, opened)
    assert (month / "run.log").is_file()
    assert not year.exists()
    assert (today / "checkpoints" / "step-00000010").is_dir()
    assert open_one.is_dir()
    assert len(opened.runs.list().items) == 4  # their records stay


def test_old_logs_go_and_metrics_files_only_of_a_system_that_is_down(
    settings: Settings, opened: Catalog
) -> None:
    log = aged(written(settings.folder.logs / f"calls-{NOBODY}.jsonl"))
    ray = aged(written(settings.folder.root / "ray-logs" / "logs" / "raylet.out"))
    counters = aged(written(settings.folder.metrics / "counter_7.db"))
    written(settings.folder.logs / "calls-8.jsonl")
    logs = {("log", log), ("log", ray)}
    with settings.folder.lock():
        assert found(settings, opened) == logs
    (settings.folder.root / "lock").write_text("")  # as a system leaves it whose process is gone
    assert found(settings, opened) == logs | {("metrics file", counters)}
    collect(settings, opened)
    assert not log.exists()
    assert (settings.folder.logs / "calls-8.jsonl").exists()


def test_the_log_of_a_process_that_lives_stays_and_what_it_has_closed_goes(
    settings: Settings, opened: Catalog
) -> None:
    aged(written(settings.folder.logs / f"calls-{os.getpid()}.jsonl"))
    closed = aged(written(settings.folder.logs / f"calls-{os.getpid()}.jsonl.1"))
    assert found(settings, opened) == {("log", closed)}


def test_what_was_half_written_a_day_ago_goes_while_the_system_runs(
    settings: Settings, opened: Catalog
) -> None:
    folder = settings.folder
    left = [
        aged(written(folder.root / "blobs-outbox" / "ab" / ".cd.0f.tmp")),
        aged(written(folder.blobs / "ab" / ".cd.0f.tmp")),
    ]
    left.append(aged(written(folder.models / ".new-0f" / "weights").parent))
    young = written(folder.models / ".new-1f" / "weights")
    with folder.lock():
        assert found(settings, opened) == {("unfinished", path) for path in left}
        collect(settings, opened)
    assert young.exists()
    assert not any(path.exists() for path in left)


def test_what_is_not_vouchs_or_is_a_link_stays(settings: Settings, opened: Catalog, tmp_path: Path) -> None:
    mine = [
        aged(written(settings.folder.root / "notes.txt")),
        aged(written(settings.folder.blobs / "ab" / "notes.txt")),
        aged(written(settings.folder.models / "my-model" / "weights")),
    ]
    target = aged(written(tmp_path / "elsewhere"))
    link = settings.folder.logs / "calls-9.jsonl"
    link.symlink_to(target)
    assert found(settings, opened) == set()
    assert all(path.exists() for path in (*mine, target))


def test_the_command_shows_first_and_removes_when_told(tmp_path: Path) -> None:
    settings = Settings(state=tmp_path / "state")
    settings.folder.create()
    path = blob_path(settings, stored(settings, b"unnamed"))

    def run(*arguments: str) -> str:
        result = CliRunner().invoke(root, ["gc", *arguments, "--state", str(settings.state)])
        assert result.exit_code == 0, result.output
        return result.output

    assert "would remove" in run()
    assert json.loads(run("--json"))["items"] == [{"kind": "blob", "path": str(path), "bytes": 7}]
    assert path.exists()
    assert "removed" in run("--apply")
    assert not path.exists()
    assert "Nothing has expired" in run()


def test_totals_count_by_kind() -> None:
    one = Garbage("log", Path("a"), 3, 0.0)
    assert retention.totals([one, one]) == {"log": {"count": 2, "bytes": 6}}
