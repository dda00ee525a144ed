"""`vouch up --ray-address`: what is refused before anything starts, without a cluster."""

from __future__ import annotations

import platform
import subprocess
import sys
from pathlib import Path

import pytest
import ray

import vouch
from services.driver.joined import address_of, check_node, check_reachable, check_stores, check_versions
from services.driver.probe import NodeReport, catalog_digest, look
from services.environment import CATALOG_URL, cluster_environment, guarding_catalog_url
from services.ports import free_range
from vouch.errors import FailedPrecondition, InvalidInput
from vouch.settings import ServerSettings, Settings

HERE = {"ray_version": ray.__version__, "python_version": platform.python_version()}
SHARED = {
    "catalog_url": "postgresql://vouch:secret@db/vouch",
    "blobs_url": "s3://vouch/blobs",
    "models_url": "s3://vouch/models",
}


@pytest.mark.parametrize(
    ("text", "where"), [("10.0.0.1:6379", ("10.0.0.1", 6379)), ("[::1]:6379", ("::1", 6379))]
)
def test_an_address_is_a_host_and_a_port(text: str, where: tuple[str, int]) -> None:
    assert address_of(text) == where


@pytest.mark.parametrize("text", ["auto", "10.0.0.1", ":6379", "ray://10.0.0.1:10001", "head:port"])
def test_what_is_no_address_is_refused(text: str) -> None:
    with pytest.raises(InvalidInput, match="give HOST:PORT of its head"):
        address_of(text)


def test_a_port_at_which_nobody_listens_is_refused() -> None:
    port = free_range(1)
    with pytest.raises(FailedPrecondition, match="ray start --head") as caught:
        check_reachable(f"127.0.0.1:{port}", ("127.0.0.1", port))
    assert caught.value.reason == "NO_RAY"


@pytest.mark.parametrize(
    ("name", "wrong"), [("ray_version", "2.9.0"), ("python_version", "3.10.1"), ("python_version", "3.11.99")]
)
def test_a_cluster_of_another_version_is_refused_and_both_are_named(name: str, wrong: str) -> None:
    check_versions("head:6379", HERE)
    with pytest.raises(FailedPrecondition, match=wrong) as caught:
        check_versions("head:6379", {**HERE, name: wrong})
    assert caught.value.reason == "VERSIONS_DIFFER"
    assert HERE[name] in caught.value.message


def test_several_nodes_want_stores_that_all_of_them_reach(tmp_path: Path) -> None:
    local = Settings(state=tmp_path)
    check_stores(local, 1)
    with pytest.raises(
        FailedPrecondition, match="VOUCH_CATALOG_URL, VOUCH_BLOBS_URL, VOUCH_MODELS_URL"
    ) as caught:
        check_stores(local, 2)
    assert caught.value.reason == "STORES_NOT_SHARED"
    check_stores(Settings(state=tmp_path, **SHARED), 2)


@pytest.mark.parametrize(
    ("name", "value"),
    [("catalog_url", "sqlite:////mnt/catalog.db"), ("blobs_url", ""), ("models_url", "")],
)
def test_each_store_that_is_not_shared_is_named(tmp_path: Path, name: str, value: str) -> None:
    with pytest.raises(FailedPrecondition, match=rf"find .*: VOUCH_{name.upper()} \("):
        check_stores(Settings(state=tmp_path, **{**SHARED, name: value}), 2)


def test_a_node_with_another_vouch_or_another_catalog_is_refused(tmp_path: Path) -> None:
    settings = Settings(state=tmp_path, **SHARED)
    digest = catalog_digest(settings.catalog_url)
    check_node(settings, "worker", NodeReport(vouch.__version__, digest))
    with pytest.raises(FailedPrecondition, match=r"worker has vouch 0\.0\.1"):
        check_node(settings, "worker", NodeReport("0.0.1", digest))
    with pytest.raises(FailedPrecondition, match="worker does not know this catalog"):
        check_node(settings, "worker", NodeReport(vouch.__version__, ""))
    with pytest.raises(FailedPrecondition, match="worker does not know this catalog"):
        check_node(
            settings, "worker", NodeReport(vouch.__version__, catalog_digest("postgresql://other/vouch"))
        )


def test_a_node_reports_and_has_the_folders_that_its_replicas_write_to(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv(CATALOG_URL, raising=False)
    monkeypatch.setenv("VOUCH_CATALOG_URL", SHARED["catalog_url"])
    told = look(str(tmp_path / "state"))
    assert told == NodeReport(vouch.__version__, catalog_digest(SHARED["catalog_url"]))
    assert (tmp_path / "state" / "metrics").is_dir() and (tmp_path / "state" / "logs").is_dir()


def test_a_door_that_knows_no_catalog_stays_shut(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in (CATALOG_URL, "VOUCH_CATALOG_URL"):
        monkeypatch.delenv(name, raising=False)
    with pytest.raises(KeyError):
        guarding_catalog_url()
    monkeypatch.setenv("VOUCH_CATALOG_URL", "")
    with pytest.raises(KeyError):
        guarding_catalog_url()
    monkeypatch.setenv(CATALOG_URL, "")  # the system says so: it admits everybody
    assert guarding_catalog_url() == ""


def test_ray_logs_no_secret(tmp_path: Path) -> None:
    """It writes the environment that it is to make into its logs."""
    told = cluster_environment(Settings(state=tmp_path, **SHARED))
    assert "vouch:secret" not in repr(told) and CATALOG_URL not in told
    local = cluster_environment(Settings(state=tmp_path))
    assert local[CATALOG_URL] == Settings(state=tmp_path).resolved_catalog_url
    assert cluster_environment(Settings(state=tmp_path, server=ServerSettings(auth=False)))[CATALOG_URL] == ""


def test_the_command_refuses_an_unreachable_cluster_before_anything_starts(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "vouch", "up", "--state", str(tmp_path / "state")]
    port = free_range(3)
    command += [
        "--grpc-port",
        str(port),
        "--http-port",
        str(port + 1),
        "--ray-address",
        f"127.0.0.1:{port + 2}",
    ]
    done = subprocess.run(command, capture_output=True, text=True, timeout=250, check=False)
    assert done.returncode == FailedPrecondition.exit_code
    assert "No Ray answers at 127.0.0.1" in done.stderr
    assert not (tmp_path / "state" / "catalog.db").exists()
