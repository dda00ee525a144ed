"""A state folder may have any name that the file system allows: all that it keeps lies inside, nothing beside it."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
import sqlalchemy as sa
import trustme

from services.environment import cluster_environment
from services.web.app import add_tls
from vouch.errors import InvalidInput
from vouch.settings import ServerSettings, Settings
from vouch.storage.blobs import BlobStore
from vouch.storage.catalog import Catalog
from vouch.storage.state import StateFolder

ODD = [
    "a b",
    "Zürich 細胞",
    "run#3",
    "x%41y",
    "100%",
    "what?x=1",
    "a&b;c",
    "a::b",
    "file:x",
    "s3:bucket",
    "[1]*",
    "quo'te\"d",
    "back\\slash",
    "+plus@at",
    "/".join("d" * 20 for _ in range(9)),
]


@pytest.mark.parametrize("name", ODD)
def test_the_catalog_and_the_blobs_lie_inside_the_folder(tmp_path: Path, name: str) -> None:
    root = tmp_path / name
    settings = Settings(state=root)
    settings.folder.create()
    with Catalog(settings.resolved_catalog_url) as catalog:
        assert not catalog.versions.list("generator").items
    digest = BlobStore(settings.resolved_blobs_url).put(b"pixels")
    assert (root / "catalog.db").is_file()
    assert (root / "blobs" / digest[:2] / digest[2:]).read_bytes() == b"pixels"
    assert [path.name for path in tmp_path.iterdir()] == [name.partition("/")[0]]


def test_a_certificate_lies_in_a_folder_of_any_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Server:
        def add_secure_port(self, address: str, _: object) -> None:
            opened.append(address)

    opened: list[str] = []
    own = trustme.CA().issue_cert("localhost")
    key, certificate = tmp_path / "a:b" / "key.pem", tmp_path / "a:b" / "cert.pem"
    key.parent.mkdir()
    own.private_key_pem.write_to_path(key)
    own.cert_chain_pems[0].write_to_path(certificate)
    settings = Settings(state=tmp_path, server=ServerSettings(grpc_port=5, tls_cert=certificate, tls_key=key))
    for name, value in cluster_environment(settings).items():
        monkeypatch.setenv(name, value)
    add_tls(None, Server())
    assert opened == ["127.0.0.1:5"]


FIGURES = """
import os, sys
os.environ["SERVICES_METRICS_FOLDER"] = sys.argv[1]
from services import metrics
metrics.ROLLOUT_FAILURES.labels("candidate").inc(3)
assert metrics.roles()["candidate"].failed == 3
sys.stdout.buffer.write(metrics.page())
"""


def test_the_figures_of_a_folder_of_any_name_are_added_up(tmp_path: Path) -> None:
    folder = tmp_path / "[1]*"
    folder.mkdir()
    command = [sys.executable, "-c", FIGURES, str(folder)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert 'vouch_rollout_failures_total{role="candidate"} 3.0' in done.stdout


@pytest.mark.parametrize("name", ODD)
def test_the_tracking_database_lies_inside_the_folder(tmp_path: Path, name: str) -> None:
    folder = StateFolder(tmp_path / name).create()
    engine = sa.create_engine(sa.make_url(folder.mlflow_uri))  # as MLflow makes it
    with engine.begin() as connection:
        connection.execute(sa.text("CREATE TABLE runs (name TEXT)"))
    engine.dispose()
    assert (folder.root / "mlflow.db").is_file()
    assert [path.name for path in tmp_path.iterdir()] == [name.partition("/")[0]]


def test_a_catalog_url_may_still_carry_options(tmp_path: Path) -> None:
    with Catalog(f"sqlite:///{tmp_path}/other.db?timeout=5") as catalog:
        assert not catalog.versions.list("reward").items
    assert (tmp_path / "other.db").is_file()


def test_a_name_that_is_no_text_is_refused_before_anything_is_made(tmp_path: Path) -> None:
    folder = StateFolder(tmp_path / os.fsdecode(b"Z\xfcrich"))
    with pytest.raises(
        InvalidInput, match=r"Z\\xfcrich has characters that are no text .* Set LC_ALL=C.UTF-8"
    ):
        folder.create()
    assert list(tmp_path.iterdir()) == []


def test_a_locale_that_cannot_spell_a_name_is_told(tmp_path: Path) -> None:
    """As ssh and cron set it: ASCII, and Python told to obey."""
    code = "import sys; from vouch.storage.state import StateFolder; StateFolder(sys.argv[1]).create()"
    done = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path / "Zürich")],
        env={**os.environ, "LC_ALL": "C", "PYTHONUTF8": "0"}, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert "no text in this locale's encoding (ascii)" in done.stderr
    assert list(tmp_path.iterdir()) == []
