"""Thirty typos, planted one by one into a copy of the manifests and the Serve config: which are found?"""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from pathlib import Path

from benchmarks.cluster.manifests import ROOT, Combination, problems, render

SEEN_IN = (
    Combination("overlays/production", ("gpu", "training", "retraining", "backup")),
    Combination("overlays/local"),
)
"""Combinations that together hold every file."""


@dataclass(frozen=True)
class Typo:
    """One text put in the place of another, in its first occurrence."""

    file: str
    right: str
    wrong: str


TYPOS = (
    Typo("deploy/serve.yaml", "proxy_location:", "proxy_locaton:"),
    Typo("deploy/serve.yaml", "EveryNode", "EveryNodes"),
    Typo("deploy/serve.yaml", "grpc_servicer_functions:", "grpc_servicer_function:"),
    Typo("deploy/serve.yaml", "services.ingress.add_services", "services.ingress.add_service"),
    Typo("deploy/serve.yaml", "request_timeout_s:", "request_timeout:"),
    Typo("deploy/serve.yaml", "- name: generation", "- name: generations"),
    Typo("deploy/serve.yaml", "graceful_shutdown_timeout_s: 3600", "graceful_shutdown_timeout_s: 360"),
    Typo("deploy/serve.yaml", "max_surge_percent: 100", "max_surge_percent: 1000"),
    Typo("deploy/serve.yaml", "encoding: JSON", "encoding: JSN"),
    Typo("deploy/serve.yaml", "import_path:", "import_paths:"),
    Typo("k8s/base/settings.env", "VOUCH_BLOBS_URL", "VOUCH_BLOB_URL"),
    Typo("k8s/base/settings.env", "VOUCH_GENERATION__REPLICAS=2", "VOUCH_GENERATION__REPLICAS=two"),
    Typo("k8s/base/service.yaml", "kind: RayService", "kind: RayServices"),
    Typo("k8s/base/service.yaml", "rayClusterDeletionDelaySeconds", "rayClusterDeletionDelaySecond"),
    Typo("k8s/base/service.yaml", "rayClusterDeletionDelaySeconds: 3600", "rayClusterDeletionDelaySeconds: 36"),
    Typo("k8s/base/service.yaml", "appProtocol: kubernetes.io/h2c", "appProtokol: kubernetes.io/h2c"),
    Typo("k8s/base/service.yaml", "mode: token", "mode: tokens"),
    Typo("k8s/base/service.yaml", "containerPort: 9000}", "containerport: 9000}"),
    Typo("k8s/base/service.yaml", "readOnlyRootFilesystem", "readOnlyRootFileSystem"),
    Typo("k8s/base/service.yaml", "grpc: {port: 9000}", "grpc: {port: 9090}"),
    Typo("k8s/base/service.yaml", "{name: shm, mountPath: /dev/shm}", "{name: shn, mountPath: /dev/shm}"),
    Typo("k8s/base/service.yaml", "secretKeyRef: {name: vouch-stores", "secretKeyRef: {name: vouch-store"),
    Typo("k8s/base/service.yaml", "cpu: \"5\", memory: 10Gi", "cpu: \"5\", memory: 10Gib"),
    Typo("k8s/base/disruption.yaml", "maxUnavailable: 1", "maxUnavalable: 1"),
    Typo("k8s/base/disruption.yaml", "component: serving", "component: serve"),
    Typo("k8s/components/retraining/retrain.yaml", "concurrencyPolicy: Forbid", "concurrencyPolicy: Forbidden"),
    Typo("k8s/components/network-policies/policies.yaml", "policyTypes: [Ingress", "policyType: [Ingress"),
    Typo("k8s/components/training/queue.yaml", "claimName: vouch-runs", "claimName: vouch-run"),
    Typo("k8s/components/tls/kustomization.yaml", "secretName: vouch-tls", "secretNames: vouch-tls"),
    Typo("k8s/components/autoscaling/kustomization.yaml", "upscalingMode: Conservative", "upscalingmode: Conservative"),
)  # fmt: skip


def copy_manifests(folder: Path) -> Path:
    """A copy of the folders that rendering reads."""
    for part in ("deploy", "k8s"):
        shutil.copytree(ROOT / part, folder / part, ignore=shutil.ignore_patterns(".render", "certificate.d"))
    return folder


def found(typo: Typo, root: Path, known: frozenset[str] = frozenset()) -> list[str]:
    """What rendering or checking says of a copy with the typo, beyond what is `known`; the copy is then as it was."""
    file = root / typo.file
    text = file.read_text("utf-8")
    assert typo.right in text, f"{typo.file} has no {typo.right!r}"
    file.write_text(text.replace(typo.right, typo.wrong, 1))
    try:
        return sorted({problem for combination in SEEN_IN for problem in check(combination, root)} - known)
    finally:
        file.write_text(text)


def check(combination: Combination, root: Path) -> list[str]:
    """Every problem of one combination; what kustomize refuses is one."""
    try:
        return problems(render(combination, root))
    except RuntimeError as error:
        return [str(error)]
