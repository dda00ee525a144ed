"""The Kubernetes manifests: every combination is valid, and a typo in any of them is found."""

from __future__ import annotations

import subprocess
from importlib.util import find_spec
from pathlib import Path

import pytest
import yaml

pytest.importorskip(
    "kubernetes_validate", reason="kubernetes-validate brings Kubernetes' schemas; install vouch[dev]"
)

from benchmarks.cluster import manifests
from benchmarks.cluster.manifests import (
    ROOT,
    Combination,
    all_combinations,
    few_combinations,
    problems,
    render,
    strict,
)
from benchmarks.cluster.typos import TYPOS, Typo, check, copy_manifests, found
from services import environment

NO_APPLICATION = "there is no application services.application:build"
"""Known of every combination as long as the application's builder is not part of the project."""


def known() -> frozenset[str]:
    if find_spec("services.application") is not None:
        return frozenset()
    return frozenset({f"RayService/vouch: serveConfigV2: {NO_APPLICATION}"})


@pytest.fixture(scope="module")
def copy(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return copy_manifests(tmp_path_factory.mktemp("manifests"))


def by_kind(objects: list[manifests.Object], kind: str, name: str = "vouch") -> manifests.Object:
    return next(
        item for item in objects if item["kind"] == kind and item["metadata"]["name"].startswith(name)
    )


@pytest.mark.timeout(900)
@pytest.mark.parametrize(
    "combinations", [few_combinations, pytest.param(all_combinations, marks=pytest.mark.slow)]
)
def test_every_combination_renders_and_is_valid(combinations, copy):
    wrong = {}
    for combination in combinations():
        if left := set(check(combination, copy)) - known():
            wrong[str(combination)] = sorted(left)
    assert wrong == {}


def test_there_are_thirty_typos():
    assert len(set(TYPOS)) == 30


@pytest.mark.timeout(600)
@pytest.mark.parametrize("typo", TYPOS, ids=lambda typo: f"{typo.file}:{typo.wrong}"[-60:])
def test_a_typo_is_found(typo: Typo, copy):
    assert found(typo, copy, known()), f"nobody noticed {typo.wrong!r} in {typo.file}"


def test_a_schema_that_was_made_strict_refuses_what_it_does_not_list():
    schema = {"type": "object", "properties": {"port": {"x-kubernetes-int-or-string": True}}}
    assert strict(schema) == {
        "type": "object",
        "properties": {"port": {"type": ["integer", "string"]}},
        "additionalProperties": False,
    }
    kept = {**schema, "x-kubernetes-preserve-unknown-fields": True}
    assert "additionalProperties" not in strict(kept)


def test_kubernetes_runs_the_serve_config_that_serve_deploy_runs(copy):
    service = by_kind(render(Combination("base"), copy), "RayService")
    assert service["spec"]["serveConfigV2"] == (ROOT / "deploy" / "serve.yaml").read_text()


def test_clients_reach_grpc_as_http2_and_the_old_cluster_drains_as_long_as_the_longest_request(copy):
    service = by_kind(render(Combination("base"), copy), "RayService")["spec"]
    ports = {port["name"]: port for port in service["serveService"]["spec"]["ports"]}
    assert (ports["serve-grpc"]["port"], ports["serve-grpc"]["appProtocol"]) == (9000, "kubernetes.io/h2c")
    longest = yaml.safe_load(service["serveConfigV2"])["grpc_options"]["request_timeout_s"]
    assert service["rayClusterDeletionDelaySeconds"] >= longest == 3600
    assert service["upgradeStrategy"]["type"] == "NewCluster"


def test_a_shorter_drain_than_the_longest_request_is_a_problem(copy):
    objects = render(Combination("base"), copy)
    by_kind(objects, "RayService")["spec"]["rayClusterDeletionDelaySeconds"] = 60
    assert any("waits 60 s, a request may take 3600 s" in problem for problem in problems(objects))


def test_serving_pods_have_the_variables_that_a_system_of_one_machine_sets(copy):
    data = by_kind(render(Combination("base"), copy), "ConfigMap", "vouch-settings")["data"]
    for name, value in {**environment._latency_env(), **environment._message_size_env()}.items():
        assert data[name] == value, name
    for name in (environment.METRICS_FOLDER, environment.LOGS_FOLDER):
        assert data[name].startswith("/var/lib/vouch/")


def test_other_settings_make_another_cluster(copy, tmp_path):
    changed = copy_manifests(tmp_path)
    file = changed / "k8s" / "base" / "settings.env"
    file.write_text(file.read_text().replace("REPLICAS=2", "REPLICAS=3"))
    before, after = (
        by_kind(render(Combination("base"), root), "RayService")["spec"]["rayClusterConfig"]
        for root in (copy, changed)
    )
    assert before != after


def test_containers_run_as_nobody_special_on_a_root_file_system_that_is_read_only(copy):
    objects = render(Combination("overlays/production", ("gpu", "training", "retraining", "backup")), copy)
    templates = [template for item in objects for _, template in manifests._templates(item)]
    assert len(templates) >= 9
    for template in templates:
        assert template["spec"]["securityContext"]["runAsNonRoot"] is True
        for container in template["spec"]["containers"]:
            context = container["securityContext"]
            assert context["readOnlyRootFilesystem"] is True
            assert context["allowPrivilegeEscalation"] is False
            assert context["capabilities"] == {"drop": ["ALL"]}


@pytest.mark.parametrize("resource", ["base", "overlays/local", "overlays/production"])
def test_nothing_is_trained_by_the_clock_unless_a_component_says_so(copy, resource):
    assert not [item for item in render(Combination(resource), copy) if item["kind"] == "CronJob"]
    retraining = render(Combination(resource, ("retraining",)), copy)
    assert by_kind(retraining, "CronJob", "vouch-retrain")["spec"]["schedule"] == "0 2 * * *"


def test_a_pod_that_the_network_policies_cut_off_is_a_problem(copy):
    closed = Combination("overlays/local", ("network-policies", "training"))
    assert problems(render(closed, copy)) == []
    objects = [item for item in render(closed, copy) if item["metadata"]["name"] != "stores"]
    by_kind(objects, "RayJob")["spec"].pop("submitterPodTemplate")
    by_kind(objects, "RayCronJob")["spec"]["jobTemplate"].pop("submitterPodTemplate")
    cut_off = [problem for problem in problems(objects) if "no network policy" in problem]
    assert [problem.partition(":")[0] for problem in cut_off] == [
        "Deployment/minio",
        "Deployment/postgres",
        "RayCronJob/vouch-queue",
        "RayJob/vouch-queue-now",
    ]


def test_a_second_training_job_may_start_on_another_node(copy):
    claim = by_kind(render(Combination("base", ("training",)), copy), "PersistentVolumeClaim")
    assert claim["spec"]["accessModes"] == ["ReadWriteMany"]


def test_a_backup_lies_on_a_volume_that_outlives_its_pod(copy):
    job = by_kind(render(Combination("base", ("backup",)), copy), "CronJob")["spec"]
    pod = job["jobTemplate"]["spec"]["template"]["spec"]
    assert pod["containers"][0]["command"][-1].startswith('exec vouch backup "/backups/')
    claims = {volume["name"]: volume.get("persistentVolumeClaim") for volume in pod["volumes"]}
    assert claims["backups"] == {"claimName": "vouch-backups"}


def test_no_password_is_part_of_what_production_renders(copy):
    objects = render(Combination("overlays/production", ("gpu", "training", "retraining", "backup")), copy)
    assert not [item for item in objects if item["kind"] == "Secret"]


def test_kubectl_is_the_one_that_is_pinned(copy):
    kubectl = Path(manifests.sys.executable).parent / "kubectl"
    said = subprocess.run([kubectl, "version", "--client"], capture_output=True, text=True, check=True).stdout
    assert "Kustomize Version: v5." in said
