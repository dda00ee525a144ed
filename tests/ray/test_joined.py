"""vouch on a Ray cluster that runs already: two nodes on this machine, PostgreSQL and an object store."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from benchmarks.cluster.ray_nodes import RayNodes, ray_nodes
from services.ports import free_range
from tests.conftest import _emptied
from tests.ray.conftest import ROOT, environment, started, until

pytestmark = [pytest.mark.ray, pytest.mark.timeout(1800), pytest.mark.slow]


@pytest.fixture(scope="module")
def stores(postgres: str, _object_server: dict[str, str]) -> dict[str, str]:
    """Where every node of the cluster finds what the system keeps."""
    return {
        **_object_server,
        "VOUCH_CATALOG_URL": _emptied(postgres),
        "VOUCH_BLOBS_URL": "s3://vouch/joined/blobs",
        "VOUCH_MODELS_URL": "s3://vouch/joined/models",
    }


@pytest.fixture(scope="module")
def nodes(stores: dict[str, str]) -> Iterator[RayNodes]:
    """A head and a worker node, whose processes have the stores in their environment."""
    with ray_nodes(stores, cpus=(4, 4)) as running:
        yield running


def refused(tmp_path: Path, models: Path, nodes: RayNodes, **settings: str) -> tuple[int, str]:
    """Exit code and message of a start that is not to succeed."""
    done = subprocess.run(
        [sys.executable, "-m", "services.system", "--json"],
        env={**environment(tmp_path / "state", models, free_range(2)), **nodes.environment, **settings},
        cwd=ROOT, capture_output=True, text=True, timeout=600, check=False,
    )  # fmt: skip
    return done.returncode, done.stderr


JOIN = """
from services.driver.joined import JoinedCluster
from vouch.settings import load_settings
cluster = JoinedCluster(load_settings())
print(repr(cluster.lost()))
cluster.stop()
"""


def test_a_fit_cluster_passes_every_check_and_stays(nodes: RayNodes, tmp_path: Path) -> None:
    values = {**os.environ, **nodes.environment, "VOUCH_STATE": str(tmp_path / "state")}
    done = subprocess.run(
        [sys.executable, "-c", JOIN],
        env=values,
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=400,
        check=False,
    )
    assert done.stdout == "''\n", done.stderr[-2000:]
    assert (tmp_path / "state" / "metrics").is_dir()
    assert nodes.alive() == 2 and not nodes.serves()


def test_a_state_folder_that_the_nodes_do_not_share_is_refused_before_anything_starts(
    nodes: RayNodes, tmp_path: Path, models: Path
) -> None:
    own = {"VOUCH_CATALOG_URL": "", "VOUCH_BLOBS_URL": "", "VOUCH_MODELS_URL": ""}
    code, said = refused(tmp_path, models, nodes, **own)
    assert (code, "VOUCH_CATALOG_URL, VOUCH_BLOBS_URL, VOUCH_MODELS_URL" in said) == (5, True), said
    assert not nodes.serves()


def test_a_cluster_of_another_version_is_refused(nodes: RayNodes, tmp_path: Path, models: Path) -> None:
    with nodes.said_to_be(ray_version="2.9.0"):
        code, said = refused(tmp_path, models, nodes)
    assert (code, "runs Ray 2.9.0, and vouch is installed here with" in said) == (5, True), said
    assert not nodes.serves()


def test_it_serves_on_the_cluster_and_leaves_it_as_it_was(
    nodes: RayNodes, stores: dict[str, str], tmp_path: Path, models: Path
) -> None:
    settings = {**nodes.environment, "VOUCH_GENERATION__REPLICAS": "2"}
    with started(tmp_path / "state", models, **settings) as running, running.client() as client:
        image = client.generate_images("neutrophil", seed=7, steps=2).images[0]
        assert image.data
        assert running.get("/healthz") == "ok\n"
        code, said = refused(tmp_path / "another", models, nodes)
        assert (code, "Ray Serve runs on this cluster already" in said) == (5, True), said
    assert not (tmp_path / "state" / "catalog.db").exists()
    until(lambda: not nodes.serves(), 120)  # its controller ends last, by itself
    assert nodes.alive() == 2
