"""The catalog as a whole: opening, migrating, refusing, being full. The nouns have files of their own."""

import pickle
import sqlite3
import subprocess
import sys
import threading
from dataclasses import asdict, replace

import pytest
import sqlalchemy as sa
from alembic.autogenerate import compare_metadata
from alembic.config import Config
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory

from tests.unit.test_atomic import SMALL_FILES
from vouch.errors import DataLoss, FailedPrecondition, InvalidInput, StorageFull, Unavailable
from vouch.storage.catalog import Catalog
from vouch.storage.catalog import migrate as migrations
from vouch.storage.catalog.database import Database
from vouch.storage.catalog.migrate import HEAD, migrate
from vouch.storage.catalog.tables import metadata


def scripts():
    config = Config()
    config.set_main_option("script_location", "vouch:storage/catalog/migrations")
    return ScriptDirectory.from_config(config)


FORMS = sorted(script.revision for script in scripts().walk_revisions())


def test_the_migrations_make_the_tables_that_the_code_expects(catalog_url):
    Catalog(catalog_url).close()
    database = Database(catalog_url)
    with database.read() as connection:
        assert compare_metadata(MigrationContext.configure(connection), metadata) == []
    database.close()


def test_the_newest_migration_is_the_one_that_the_code_asks_for():
    assert scripts().get_current_head() == HEAD == FORMS[-1]


@pytest.mark.parametrize("form", FORMS)
def test_a_catalog_of_every_form_comes_forward_with_what_it_held(tmp_path, make_image, form):
    url = f"sqlite:///{tmp_path / 'catalog.db'}"
    database = Database(url)
    migrate(database, form)
    with database.write() as connection:
        table = sa.Table("images", sa.MetaData(), autoload_with=connection)
        known = {name: value for name, value in asdict(make_image(1)).items() if name in table.c}
        connection.execute(table.insert().values({**known, "created_at": 0}))
    database.close()
    with Catalog(url) as catalog:
        assert catalog.images.get(make_image(1).digest).seed == 1
    database = Database(url)
    with database.read() as connection:
        assert compare_metadata(MigrationContext.configure(connection), metadata) == []
    database.close()


def test_an_existing_catalog_opens_with_what_it_held(catalog_url, make_image):
    with Catalog(catalog_url) as first:
        first.images.add([make_image(1)])
    with Catalog(catalog_url) as second:
        assert second.images.get(make_image(1).digest).label == "neutrophil"


def test_images_of_an_older_catalog_were_guided_by_cfg_in_every_step(catalog_url, make_image, monkeypatch):
    drawn, real = make_image(1), replace(make_image(2), source="real")
    database = Database(catalog_url)
    monkeypatch.setattr("vouch.storage.catalog.migrate.HEAD", "0001")
    migrate(database)
    columns = sa.MetaData()
    with database.write() as connection:
        images = sa.Table("images", columns, autoload_with=connection)
        for record in (drawn, real):
            known = {name: value for name, value in asdict(record).items() if name in images.c}
            connection.execute(images.insert().values({**known, "created_at": 0}))
    database.close()
    monkeypatch.undo()
    with Catalog(catalog_url) as catalog:
        old, other = catalog.images.get(drawn.digest), catalog.images.get(real.digest)
        told = (old.guidance_method, old.guidance_start, old.guidance_stop, old.adapter_start)
        assert told == ("cfg", 0.0, 1.0, 0.0)
        assert (other.guidance_method, other.guidance_start) == ("", None)


OPEN = """
import sys
from vouch.storage.catalog import Catalog
Catalog(sys.argv[1]).close()
"""


def test_processes_that_open_a_new_catalog_at_the_same_moment_migrate_it_once(catalog_url):
    openers = [
        subprocess.Popen([sys.executable, "-c", OPEN, catalog_url], stderr=subprocess.PIPE, text=True)
        for _ in range(3)
    ]
    complaints = [opener.communicate(timeout=120)[1] for opener in openers]

    assert [opener.returncode for opener in openers] == [0, 0, 0], complaints


def test_a_catalog_travels_between_processes_as_its_address(catalog, make_image):
    catalog.images.add([make_image(1)])
    with pickle.loads(pickle.dumps(catalog)) as other:
        assert other.images.get(make_image(1).digest).seed == 1


def test_sqlite_commits_reach_the_disk_before_they_are_acknowledged(tmp_path):
    database = Database(f"sqlite:///{tmp_path / 'catalog.db'}")
    with database.read() as connection:
        pragmas = {
            name: connection.exec_driver_sql(f"PRAGMA {name}").scalar()
            for name in ("journal_mode", "synchronous")
        }
    database.close()
    assert pragmas == {"journal_mode": "wal", "synchronous": 2}  # 2 is FULL


def test_a_catalog_of_a_newer_vouch_is_refused_and_left_alone(catalog_url):
    Catalog(catalog_url).close()
    database = Database(catalog_url)
    with database.write() as connection:
        connection.execute(sa.text("UPDATE alembic_version SET version_num = '9999'"))

    with pytest.raises(FailedPrecondition, match="newer vouch"):
        Catalog(catalog_url)
    with database.read() as connection:
        assert connection.execute(sa.text("SELECT version_num FROM alembic_version")).scalar() == "9999"
    database.close()


@pytest.mark.parametrize(
    "url", ["", "catalog.db", "mysql://host/db", "sqlite://", "sqlite:///:memory:", "nodb://x"]
)
def test_an_address_that_is_no_catalog_is_refused_with_what_would_be_one(url):
    with pytest.raises(InvalidInput, match="sqlite:///FILE or postgresql://HOST/NAME"):
        Catalog(url)


def test_a_folder_that_does_not_exist_is_refused(tmp_path):
    with pytest.raises(FailedPrecondition, match="folder exists"):
        Catalog(f"sqlite:///{tmp_path / 'no' / 'catalog.db'}")


def test_a_file_that_is_no_database_is_refused(tmp_path):
    (tmp_path / "catalog.db").write_bytes(b"these are no pages of a database" * 100)
    with pytest.raises(DataLoss, match="damaged"):
        Catalog(f"sqlite:///{tmp_path / 'catalog.db'}")


def test_a_server_that_does_not_answer_is_unavailable():
    with pytest.raises(Unavailable, match="VOUCH_CATALOG_URL"):
        Catalog("postgresql://nobody@127.0.0.1:1/none?connect_timeout=2")


def test_a_database_that_does_not_exist_is_refused(postgres):
    url = sa.make_url(postgres).set(database="no_such").render_as_string(hide_password=False)
    with pytest.raises((FailedPrecondition, Unavailable), match="VOUCH_CATALOG_URL"):
        Catalog(url)


def test_a_full_disk_refuses_the_write_and_keeps_all_that_was_acknowledged(tmp_path, make_image):
    url = f"sqlite:///{tmp_path / 'catalog.db'}"
    Catalog(url).close()
    limit = (tmp_path / "catalog.db").stat().st_size + 100_000
    script = f"""{SMALL_FILES.replace("8192", str(limit))}
from vouch.storage.catalog import Catalog
from vouch.errors import StorageFull
from vouch.types.image import ImageRecord
catalog = Catalog({url!r})
stored = 0
try:
    while True:
        catalog.images.add([ImageRecord(digest=f"{{stored:064x}}", media_type="image/png", width=1, height=1,
                                        size_bytes=1, source="real", prompt="x" * 5000)])
        stored += 1
except StorageFull:
    print(stored)
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    stored = int(done.stdout)

    with Catalog(url) as catalog:
        kept = {record.digest for record in catalog.images.list(page_size=1000).items}
        assert stored > 3
        assert kept == {f"{number:064x}" for number in range(stored)}
        catalog.images.add([make_image(1)])  # with room again, it goes on


def test_a_catalog_on_a_truly_full_disk_says_so(tmp_path, make_image):
    folder = tmp_path / "tiny"
    folder.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", str(folder)],
        capture_output=True,
        text=True,
        check=False,
    )
    if mounted.returncode != 0:
        pytest.skip(f"mounting a tiny file system needs root: {mounted.stderr.strip()}")
    try:
        with Catalog(f"sqlite:///{folder / 'catalog.db'}") as catalog:
            catalog.images.add([make_image(1)])
            with pytest.raises(StorageFull, match="Free some space"):
                for number in range(2, 1000):
                    catalog.images.add([make_image(number, prompt="x" * 10_000)])
            assert catalog.images.get(make_image(1).digest).seed == 1
    finally:
        subprocess.run(["umount", str(folder)], check=True)


def test_a_writer_waits_for_another_instead_of_failing(tmp_path, make_image):
    with Catalog(f"sqlite:///{tmp_path / 'catalog.db'}") as catalog:
        other = sqlite3.connect(tmp_path / "catalog.db", isolation_level=None, check_same_thread=False)
        other.execute("BEGIN IMMEDIATE")
        writer = threading.Thread(target=catalog.images.add, args=([make_image(1)],))
        writer.start()
        writer.join(0.3)
        assert writer.is_alive()
        assert catalog.images.list().items == ()  # readers do not wait

        other.execute("COMMIT")
        writer.join(30)
        other.close()
        assert catalog.images.get(make_image(1).digest)


def test_a_catalog_of_the_first_form_keeps_its_images_and_learns_to_log_reviews(catalog_url, make_image):
    database = Database(catalog_url)
    with pytest.MonkeyPatch.context() as first:
        first.setattr(migrations, "HEAD", "0001")
        migrations.migrate(database)
    with database.write() as connection:
        table = sa.Table("images", sa.MetaData(), autoload_with=connection)  # as it was in that form
        values = {k: v for k, v in asdict(make_image(1)).items() if k in table.c and k != "created_at"}
        connection.execute(sa.insert(table).values(values | {"created_at": 0}))
        assert not sa.inspect(connection).has_table("reviews")
    database.close()
    with Catalog(catalog_url) as catalog:
        assert catalog.images.get(make_image(1).digest).seed == 1
        assert catalog.reviews.uniform() == frozenset()
