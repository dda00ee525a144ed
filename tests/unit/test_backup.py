"""A backup of a whole system, and what comes back of it, on both databases."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Callable
from pathlib import Path

import pytest
from typer.testing import CliRunner

from vouch.cli.main import root
from vouch.domains.criteria import Domain
from vouch.errors import AlreadyExists, DataLoss, FailedPrecondition, NotFound
from vouch.settings import Access, Settings
from vouch.storage.backup import make_backup, read_backup, restore
from vouch.storage.blobs import BlobStore
from vouch.storage.catalog import Catalog
from vouch.storage.catalog.database import Database
from vouch.storage.catalog.migrate import HEAD, migrate
from vouch.storage.catalog.rows import CatalogRows
from vouch.storage.check import check
from vouch.storage.outbox import Outbox, Unfiled
from vouch.storage.registry import Registry
from vouch.types.image import ImageRecord
from vouch.types.rating import NewRating

PNG = [b"first image", b"second image"]


@pytest.fixture
def settings(settings: Settings) -> Settings:
    """A system on either database, its files in its state folder, with an address, a token and curves of training."""
    settings = settings.model_copy(update={"blobs_url": "", "models_url": ""})
    settings.folder.write_access(Access(address="127.0.0.1:1", http="http://x", tokens={"client": "secret"}))
    with sqlite3.connect(settings.folder.root / "mlflow.db") as curves:
        curves.execute("CREATE TABLE metrics (value REAL)")
        curves.execute("INSERT INTO metrics VALUES (0.25)")
    return settings


@pytest.fixture
def filled(
    settings: Settings,
    tmp_path: Path,
    domain: Domain,
    make_image: Callable[..., ImageRecord],
    make_rating: Callable[..., NewRating],
) -> Settings:
    blobs = BlobStore(settings.resolved_blobs_url)
    digests = [blobs.put(data) for data in PNG]
    model = tmp_path / "model"
    model.mkdir()
    (model / "weights.safetensors").write_bytes(b"weights")
    with Catalog(settings.resolved_catalog_url) as catalog:
        catalog.images.add([make_image(n, digest=digest) for n, digest in enumerate(digests)], owner="client")
        first = catalog.ratings.record(make_rating(digests[0]), domain, by="rater")
        catalog.ratings.record(
            make_rating(digests[0], supersedes=first.id, verdict="implausible"), domain, by="rater"
        )
        registry = Registry(catalog, settings.folder.models)
        parent = registry.publish(model, kind="generator", format="diffusers")
        (model / "weights.safetensors").write_bytes(b"better")
        child = registry.publish(model, kind="generator", format="diffusers", parent=parent.digest)
        registry.attach_evidence(child.digest, {"verdict": "better"})
        catalog.serving.ensure("generator", parent.digest)
        catalog.rollouts.start("generator", child.digest, percent=5, actor="ops", request_id="one")
        catalog.tokens.create("alice", "rater", ["human"])
    return settings


def target_beside(settings: Settings, tmp_path: Path) -> Settings:
    """An empty system on a database of the same kind: for PostgreSQL the same one, emptied."""
    if settings.catalog_url:
        _emptied(settings.catalog_url)
    return Settings(state=tmp_path / "other", catalog_url=settings.catalog_url)


def _emptied(url: str) -> None:
    import psycopg

    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute("DROP SCHEMA public CASCADE")
        connection.execute("CREATE SCHEMA public")


def lines(settings: Settings) -> list[str]:
    with CatalogRows(settings.resolved_catalog_url).snapshot() as rows:
        return list(rows)


def problems(settings: Settings) -> tuple[str, ...]:
    with Catalog(settings.resolved_catalog_url) as catalog:
        registry = Registry(catalog, settings.folder.models)
        return check(catalog, BlobStore(settings.resolved_blobs_url), registry).problems


def test_a_restored_system_has_every_record_image_version_token_and_curve(
    filled: Settings, tmp_path: Path
) -> None:
    made = make_backup(filled, tmp_path / "backup")
    before = lines(filled)
    target = target_beside(filled, tmp_path)
    restored = restore(target, tmp_path / "backup")
    assert restored == made
    after = lines(target)
    assert set(before) < set(after)
    assert [json.loads(line)[1]["action"] for line in set(after) - set(before)] == ["restore"]
    assert problems(target) == ()
    with Catalog(target.resolved_catalog_url) as catalog:
        assert catalog.audit.verify().broken_at is None
        assert Registry(catalog, target.folder.models).evidence("generator-2") == {"verdict": "better"}
    assert target.folder.read_access().tokens == {"client": "secret"}
    with sqlite3.connect(target.folder.root / "mlflow.db") as curves:
        assert curves.execute("SELECT value FROM metrics").fetchall() == [(0.25,)]


def test_a_backup_is_in_the_audit_log_and_in_the_log_that_it_holds(filled: Settings, tmp_path: Path) -> None:
    make_backup(filled, tmp_path / "backup")
    held = (tmp_path / "backup" / "catalog.jsonl").read_text()
    actions = [values["action"] for name, values in map(json.loads, held.splitlines()) if name == "audit"]
    assert actions[-1] == "backup"


def test_an_image_that_waits_for_the_catalog_is_in_the_backup(
    filled: Settings, tmp_path: Path, make_image: Callable[..., ImageRecord]
) -> None:
    drawn = make_image(
        77, digest=BlobStore(filled.resolved_blobs_url).put(b"drawn while the catalog was away")
    )
    Outbox(BlobStore(filled.resolved_outbox_url)).put(Unfiled(owner="", records=(drawn,)))
    assert drawn.digest in make_backup(filled, tmp_path / "backup").images


def test_a_restored_catalog_numbers_new_records_after_the_old_ones(
    filled: Settings,
    tmp_path: Path,
    domain: Domain,
    make_image: Callable[..., ImageRecord],
    make_rating: Callable[..., NewRating],
) -> None:
    make_backup(filled, tmp_path / "backup")
    target = target_beside(filled, tmp_path)
    restore(target, tmp_path / "backup")
    with Catalog(target.resolved_catalog_url) as catalog:
        newest = catalog.images.newest_seq()
        assert catalog.images.add([make_image(7)]) == 1
        assert catalog.images.newest_seq() > newest
        catalog.ratings.record(make_rating(make_image(7).digest), domain, by="rater")
        assert catalog.ratings.count() == 3


def test_what_sqlite_kept_is_restored_into_postgresql(
    tmp_path: Path, postgres: str, make_image: Callable[..., ImageRecord]
) -> None:
    source = Settings(state=tmp_path / "state")
    source.folder.create()
    with Catalog(source.resolved_catalog_url) as catalog:
        catalog.images.add([make_image(1, digest=BlobStore(source.resolved_blobs_url).put(PNG[0]))])
    make_backup(source, tmp_path / "backup")
    _emptied(postgres)
    target = Settings(state=tmp_path / "other", catalog_url=postgres)
    restore(target, tmp_path / "backup")
    assert set(lines(source)) < set(lines(target))


def test_nothing_is_restored_over_a_system_that_holds_something(filled: Settings, tmp_path: Path) -> None:
    make_backup(filled, tmp_path / "backup")
    before = lines(filled)
    with pytest.raises(FailedPrecondition, match="nothing is restored over") as refused:
        restore(filled, tmp_path / "backup")
    assert refused.value.reason == "NOT_EMPTY"
    fresh = filled.model_copy(update={"state": tmp_path / "fresh"})
    if fresh.catalog_url:  # a state folder that is new, and a catalog that is not
        with pytest.raises(FailedPrecondition, match="catalog holds records"):
            restore(fresh, tmp_path / "backup")
    assert lines(filled) == before


def test_a_folder_that_holds_something_is_no_place_for_a_backup(filled: Settings, tmp_path: Path) -> None:
    (tmp_path / "backup").mkdir()
    (tmp_path / "backup" / "mine").touch()
    with pytest.raises(AlreadyExists, match="new folder"):
        make_backup(filled, tmp_path / "backup")


def _flip(path: Path) -> None:
    path.chmod(0o600)
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(bytes(data))


@pytest.mark.parametrize(
    "what", ["catalog.jsonl", "access.json", "blobs/*/*", "models/*/weights.safetensors"]
)
def test_a_backup_with_one_changed_bit_is_refused_and_restores_nothing(
    filled: Settings, tmp_path: Path, what: str
) -> None:
    make_backup(filled, tmp_path / "backup")
    _flip(sorted((tmp_path / "backup").glob(what))[-1])
    _is_refused_before_anything_is_written(filled, tmp_path)


def test_a_backup_that_lacks_an_image_is_refused_and_restores_nothing(
    filled: Settings, tmp_path: Path
) -> None:
    make_backup(filled, tmp_path / "backup")
    sorted((tmp_path / "backup").glob("blobs/*/*"))[-1].unlink()
    _is_refused_before_anything_is_written(filled, tmp_path)


def _is_refused_before_anything_is_written(filled: Settings, tmp_path: Path) -> None:
    target = target_beside(filled, tmp_path)
    with pytest.raises(DataLoss, match="damaged"):
        read_backup(tmp_path / "backup")
    with pytest.raises(DataLoss, match="damaged"):
        restore(target, tmp_path / "backup")
    assert not target.folder.root.exists()
    assert not target.catalog_url or CatalogRows(target.catalog_url).count() == 0


def test_a_backup_that_was_cut_off_is_none(filled: Settings, tmp_path: Path) -> None:
    make_backup(filled, tmp_path / "backup")
    (tmp_path / "backup" / "backup.json").unlink()
    with pytest.raises(NotFound, match="no whole backup"):
        read_backup(tmp_path / "backup")


def test_a_damaged_image_stops_a_backup_unless_it_may_be_left_out(filled: Settings, tmp_path: Path) -> None:
    _flip(sorted(filled.folder.blobs.glob("*/*"))[0])
    with pytest.raises(DataLoss, match="--leave-out-damaged"):
        make_backup(filled, tmp_path / "stopped")
    made = make_backup(filled, tmp_path / "backup", leave_out_damaged=True)
    assert len(made.left_out) == 1
    assert "is damaged" in made.left_out[0]
    target = target_beside(filled, tmp_path)
    assert restore(target, tmp_path / "backup").left_out == made.left_out
    assert len(problems(target)) == 1


def test_records_of_an_older_form_come_forward(catalog_url: str, tmp_path: Path) -> None:
    old = Database(catalog_url)
    migrate(old, "0001")
    with old.write() as connection:
        connection.exec_driver_sql(
            "INSERT INTO serving (slot, champion, candidate, percent, previous, revision, updated_at) "
            "VALUES ('generator', 'a', '', 0, '', 1, 0)"
        )
    old.close()
    rows = CatalogRows(catalog_url)
    assert rows.form == "0001"
    with rows.snapshot() as found:
        kept = list(found)
    if catalog_url.startswith("sqlite"):
        catalog_url = f"sqlite:///{tmp_path / 'new.db'}"
    else:
        _emptied(catalog_url)
    assert CatalogRows(catalog_url).load("0001", kept) == 1
    assert CatalogRows(catalog_url).form == HEAD
    with Catalog(catalog_url) as catalog:
        assert catalog.serving.get("generator").sticky is False


def test_rows_are_loaded_all_or_none(catalog_url: str) -> None:
    Catalog(catalog_url).close()
    row = '["controllers", {"name": "one", "fence": 1, "taken_at": 0}]\n'
    with pytest.raises(Exception, match=r"(?i)unique"):
        CatalogRows(catalog_url).load(HEAD, [row, row])
    assert CatalogRows(catalog_url).count() == 0


def run(*arguments: str, code: int = 0) -> str:
    result = CliRunner().invoke(root, list(arguments))
    assert result.exit_code == code, result.output
    return result.output


def test_the_commands_back_up_restore_and_check(
    tmp_path: Path, make_image: Callable[..., ImageRecord]
) -> None:
    source = Settings(state=tmp_path / "state")
    source.folder.create()
    with Catalog(source.resolved_catalog_url) as catalog:
        catalog.images.add([make_image(1, digest=BlobStore(source.resolved_blobs_url).put(PNG[0]))])
    place, other = str(tmp_path / "backup"), str(tmp_path / "other")
    told = json.loads(run("backup", place, "--json", "--state", str(source.state)))
    assert (told["images"], told["left_out"]) == (1, [])
    assert "Would restore" in run("restore", place, "--state", other, "--dry-run")
    assert not (tmp_path / "other").exists()
    assert "Restored" in run("restore", place, "--state", other)
    assert "nothing is restored over" in " ".join(run("restore", place, "--state", other, code=5).split())
    assert "1 images" in run("check", "--state", other)
    _flip(sorted((tmp_path / "other" / "blobs").glob("*/*"))[0])
    assert "is damaged" in " ".join(run("check", "--state", other, code=7).split())
    assert json.loads(run("check", "--quick", "--json", "--state", other))["problems"] == []


def test_the_check_misses_entries_that_were_cut_from_the_audit_log_since_the_backup(tmp_path: Path) -> None:
    source = Settings(state=tmp_path / "state")
    source.folder.create()
    with Catalog(source.resolved_catalog_url) as catalog:
        catalog.tokens.create("ada", "rater", ["human"])
    run("backup", str(tmp_path / "backup"), "--state", str(source.state))
    with sqlite3.connect(source.folder.root / "catalog.db") as records:
        records.execute("DELETE FROM audit WHERE number = 2")
    assert "its end was cut" in " ".join(run("check", "--state", str(source.state), code=7).split())
