"""Renders every combination of the Kubernetes manifests and says what is wrong with each.

Checked are: Kubernetes' own schemas, KubeRay's made strict, Ray Serve's config schema made strict, the names by which
objects refer to each other, and the settings of vouch among the environment variables. Not checked: what an API server
or an operator decides at admission, and whether a cluster has the room.
"""

from __future__ import annotations

import functools
import gzip
import importlib
import json
import re
import subprocess
import sys
import typing
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path
from typing import Any

import yaml
from pydantic import BaseModel

from vouch.errors import VouchError
from vouch.settings import PREFIX, load_settings

ROOT = Path(__file__).parents[2]
KUBERNETES = "1.37"
COMPONENTS = ("autoscaling", "gpu", "monitoring", "network-policies", "tls", "training")
"""Components that change what others render."""
ADDITIONS = ("backup", "retraining")
"""Components that only add objects."""
IN_PRODUCTION = frozenset({"autoscaling", "monitoring", "network-policies", "tls"})
EXTERNAL = frozenset({"vouch-stores", "vouch-tls", "vouch-operator"})
"""Secrets that an administrator makes; k8s/README.md says how."""
DEPLOYMENTS = frozenset({"gateway", "generation", "reward", "feedback", "operations"})
_METADATA = {
    "type": "object",
    "additionalProperties": False,
    "required": ["name"],
    "properties": {
        "name": {"type": "string"},
        "namespace": {"type": "string"},
        **{
            key: {"type": "object", "additionalProperties": {"type": "string"}}
            for key in ("labels", "annotations")
        },
    },
}
_WORDS = {
    "concurrencyPolicy": {"Allow", "Forbid", "Replace"},
    "restartPolicy": {"Always", "OnFailure", "Never"},
    "imagePullPolicy": {"Always", "IfNotPresent", "Never"},
    "policyTypes": {"Ingress", "Egress"},
    "accessModes": {"ReadWriteOnce", "ReadOnlyMany", "ReadWriteMany", "ReadWriteOncePod"},
    "protocol": {"TCP", "UDP", "SCTP"},
    "submissionMode": {"K8sJobMode", "HTTPMode", "InteractiveMode", "SidecarMode"},
    "upscalingMode": {"Default", "Aggressive", "Conservative"},
}
"""Fields whose words the schemas leave open and the API server or the operator does not."""
_QUANTITY = re.compile(r"\d+(\.\d+)?(m|[kMGTPE]i?)?")

Object = dict[str, Any]


@dataclass(frozen=True)
class Combination:
    """A base or overlay and the components added to it."""

    resource: str
    components: tuple[str, ...] = ()

    def __str__(self) -> str:
        return " + ".join((self.resource, *self.components))


def all_combinations() -> list[Combination]:
    """Base and local overlay with every set of components, production with every set of those that it lacks; the
    additions alone, and all together with everything else."""
    sets = [chosen for count in range(len(COMPONENTS) + 1) for chosen in combinations(COMPONENTS, count)]
    sets += [ADDITIONS, (*COMPONENTS, *ADDITIONS)]
    production = [chosen for chosen in sets if not IN_PRODUCTION & set(chosen)]
    production.append((*sorted(set(COMPONENTS) - IN_PRODUCTION), *ADDITIONS))
    pairs = [("base", sets), ("overlays/local", sets), ("overlays/production", production)]
    return [Combination(resource, chosen) for resource, chosens in pairs for chosen in chosens]


def few_combinations() -> list[Combination]:
    """Of `all_combinations` every pair of components, and all of them."""
    few = {0, 1, 2, len(COMPONENTS), len((*COMPONENTS, *ADDITIONS))}
    return [
        one
        for one in all_combinations()
        if len(one.components) in few or one.resource == "overlays/production"
    ]


def render(combination: Combination, root: Path = ROOT) -> list[Object]:
    """The objects that `kubectl kustomize` makes. Raises RuntimeError with what it says."""
    folder = root / "k8s" / ".render" / str(combination).replace("/", "-").replace(" + ", "-")
    folder.mkdir(parents=True, exist_ok=True)
    kustomization = {
        "apiVersion": "kustomize.config.k8s.io/v1beta1",
        "kind": "Kustomization",
        "resources": [f"../../{combination.resource}"],
        "components": [f"../../components/{name}" for name in combination.components],
    }
    (folder / "kustomization.yaml").write_text(yaml.safe_dump(kustomization))
    kubectl = Path(sys.executable).parent / "kubectl"
    done = subprocess.run(
        [str(kubectl), "kustomize", str(folder)], capture_output=True, text=True, check=False
    )
    if done.returncode:
        raise RuntimeError(done.stderr.strip())
    return [item for item in yaml.safe_load_all(done.stdout) if item]


def problems(objects: list[Object]) -> list[str]:
    """One sentence for each thing that is wrong."""
    found = [problem for item in objects for problem in _of_object(item)]
    return [*found, *_references(objects), *_serve_configs(objects)]


def _of_object(item: Object) -> Iterator[str]:
    name = f"{item.get('kind')}/{item.get('metadata', {}).get('name')}"
    for problem in (*_schema(item), *_words(item), *_pods_of(item)):
        yield f"{name}: {problem}"


def _schema(item: Object) -> Iterator[str]:
    import jsonschema

    if str(item.get("apiVersion", "")).startswith("ray.io/"):
        schema = _strict_schema(str(item.get("kind")), str(item["apiVersion"]))
        if schema is None:
            yield f"KubeRay has no {item.get('kind')} {item['apiVersion']}"
            return
        for error in jsonschema.Draft202012Validator(schema).iter_errors(item):
            yield f"{'.'.join(map(str, error.absolute_path))}: {error.message[:200]}"
        return
    if problem := _kubernetes_problem(json.dumps(item, sort_keys=True)):
        yield problem


@functools.cache  # combinations share most of their objects, and a validation reads megabytes of schemas
def _kubernetes_problem(item: str) -> str:
    import kubernetes_validate

    try:
        kubernetes_validate.validate(json.loads(item), KUBERNETES, strict=True)
    except Exception as error:  # noqa: BLE001 - several libraries' own, all of which mean the same here
        return str(error).splitlines()[0][:300]
    return ""


def _words(value: Any) -> Iterator[str]:
    if isinstance(value, list):
        for part in value:
            yield from _words(part)
    elif isinstance(value, dict):
        for key, part in value.items():
            known = _WORDS.get(key)
            given = part if isinstance(part, list) else [part]
            if known and all(isinstance(word, str) for word in given):
                yield from (
                    f"{key} {word!r} is none of {', '.join(sorted(known))}"
                    for word in given
                    if word not in known
                )
            yield from _words(part)


@functools.cache
def _strict_schema(kind: str, version: str) -> Object | None:
    file = ROOT / "k8s" / "schemas" / f"{kind}.v1.json.gz"
    if version != "ray.io/v1" or not file.is_file():
        return None
    schema: Object = strict(json.loads(gzip.decompress(file.read_bytes())))
    schema["properties"]["metadata"] = _METADATA
    schema["required"] = ["apiVersion", "kind", "metadata", "spec"]
    schema["properties"]["upgradeStrategy"] = False
    return schema


def strict(schema: Any) -> Any:
    """A schema that forbids what it does not list, and knows Kubernetes' numbers that may be texts."""
    if isinstance(schema, list):
        return [strict(part) for part in schema]
    if not isinstance(schema, dict):
        return schema
    if schema.get("x-kubernetes-int-or-string"):
        return {"type": ["integer", "string"]}
    made = {key: strict(value) for key, value in schema.items() if key != "default"}
    if isinstance(schema.get("properties"), dict) and not schema.get("x-kubernetes-preserve-unknown-fields"):
        made["properties"] = {name: strict(part) for name, part in schema["properties"].items()}
        made.setdefault("additionalProperties", False)
    return made


# ---- pods, wherever an object keeps them


def _templates(value: Any, path: str = "") -> Iterator[tuple[str, Object]]:
    """Every pod template in an object: a mapping with `metadata` or not, whose `spec` has containers."""
    if isinstance(value, dict):
        spec = value.get("spec")
        if isinstance(spec, dict) and "containers" in spec:
            yield path, value
        for key, part in value.items():
            yield from _templates(part, f"{path}.{key}" if path else key)
    elif isinstance(value, list):
        for number, part in enumerate(value):
            yield from _templates(part, f"{path}.{number}")


def _pods_of(item: Object) -> Iterator[str]:
    for path, template in _templates(item):
        spec = template["spec"]
        volumes = {volume["name"] for volume in spec.get("volumes", ())}
        for container in spec["containers"]:
            where = f"{path}.containers.{container.get('name')}"
            for problem in (*_container(container, volumes), *_environment(container)):
                yield f"{where}: {problem}"


def _container(container: Object, volumes: set[str]) -> Iterator[str]:
    for mount in container.get("volumeMounts", ()):
        if mount["name"] not in volumes:
            yield f"no volume {mount['name']}"
    ports = {port.get("name") for port in container.get("ports", ())}
    numbers = {port.get("containerPort") for port in container.get("ports", ())}
    for probe in ("startupProbe", "readinessProbe", "livenessProbe"):
        for handler in ("grpc", "httpGet", "tcpSocket"):
            port = container.get(probe, {}).get(handler, {}).get("port")
            if port is not None and port not in ports | numbers:
                yield f"{probe} asks port {port}, which the container does not name"
    for kind, amounts in container.get("resources", {}).items():
        for resource, amount in amounts.items():
            if not _QUANTITY.fullmatch(str(amount)):
                yield f"{kind} of {resource} {amount!r} is no quantity"


def _environment(container: Object) -> Iterator[str]:
    names = [variable["name"] for variable in container.get("env", ())]
    yield from _unknown_settings(dict.fromkeys(names, "1"))


def _unknown_settings(variables: dict[str, str]) -> Iterator[str]:
    from vouch.settings import _refuse_unknown_variables

    for name in variables:
        try:
            _refuse_unknown_variables({name: ""})
        except VouchError as error:
            yield error.message


# ---- names that objects know each other by


def _references(objects: list[Object]) -> Iterator[str]:
    made = {(item["kind"], item.get("metadata", {}).get("name")) for item in objects}
    for item in objects:
        for kind, name in _named(item):
            if (kind, name) not in made and name not in EXTERNAL:
                yield f"{item['kind']}/{item['metadata'].get('name')}: there is no {kind} {name}"
    labels = [
        template.get("metadata", {}).get("labels", {}) for item in objects for _, template in _templates(item)
    ]
    for item in objects:
        yield from _selects(item, labels)
        yield from _of_settings(item)
    yield from _cut_off(objects)


def _named(value: Any) -> Iterator[tuple[str, str]]:
    keys = {
        "configMapRef": "ConfigMap",
        "configMapKeyRef": "ConfigMap",
        "secretRef": "Secret",
        "secretKeyRef": "Secret",
    }
    if isinstance(value, list):
        for part in value:
            yield from _named(part)
    elif isinstance(value, dict):
        for key, part in value.items():
            if key in keys and isinstance(part, dict):
                yield keys[key], str(part.get("name"))
            elif key == "secretName":
                yield "Secret", str(part)
            elif key == "claimName":
                yield "PersistentVolumeClaim", str(part)
            else:
                yield from _named(part)


def _selects(item: Object, labels: Iterable[dict[str, str]]) -> Iterator[str]:
    """A selector of a budget, policy or service that no pod answers to."""
    spec = item.get("spec", {})
    selector = {
        "PodDisruptionBudget": spec.get("selector", {}).get("matchLabels", {}),
        "NetworkPolicy": spec.get("podSelector", {}).get("matchLabels", {}),
        "Service": spec.get("selector", {}),
    }.get(item["kind"], {})
    if selector and not any(selector.items() <= one.items() for one in labels):
        yield f"{item['kind']}/{item['metadata'].get('name')}: no pod has the labels {selector}"


def _cut_off(objects: list[Object]) -> Iterator[str]:
    """Pods that a policy denies everything and none allows anything. KubeRay makes a submitter's pod without labels."""
    policies = [item["spec"] for item in objects if item["kind"] == "NetworkPolicy"]
    if not any(policy.get("podSelector") == {} for policy in policies):
        return
    allowing = [policy for policy in policies if policy.get("ingress") or policy.get("egress")]
    selectors = [policy["podSelector"].get("matchLabels", {}).items() for policy in allowing]
    for item in objects:
        name = f"{item['kind']}/{item['metadata'].get('name')}"
        for path, template in _templates(item):
            labels = template.get("metadata", {}).get("labels", {}).items()
            if not any(selector <= labels for selector in selectors):
                yield f"{name}: no network policy allows {path} anything"
        job = (
            item["spec"].get("jobTemplate", item["spec"]) if item["kind"] in ("RayJob", "RayCronJob") else {}
        )
        if job.get("submissionMode") == "K8sJobMode" and "submitterPodTemplate" not in job:
            yield f"{name}: no network policy allows its submitter anything"


def _of_settings(item: Object) -> Iterator[str]:
    """Settings of vouch in a ConfigMap: their names, and their values as the program reads them."""
    if item["kind"] != "ConfigMap" or not str(item["metadata"].get("name", "")).startswith("vouch-settings"):
        return
    values = {name: value for name, value in item["data"].items() if name.startswith(PREFIX)}
    yield from _unknown_settings(values)
    tree: Object = {}
    for name, value in values.items():
        *groups, last = name.removeprefix(PREFIX).lower().split("__")
        place = tree
        for group in groups:
            place = place.setdefault(group, {})
        place[last] = value
    try:
        load_settings(**tree)
    except VouchError as error:
        yield f"ConfigMap/vouch-settings: {error.message}"


# ---- Serve configs


def _serve_configs(objects: list[Object]) -> Iterator[str]:
    for item in objects:
        if item["kind"] == "RayService":
            for problem in serve_problems(str(item.get("spec", {}).get("serveConfigV2", ""))):
                yield f"RayService/{item['metadata'].get('name')}: serveConfigV2: {problem}"
            yield from _draining(item)


def serve_problems(text: str) -> Iterator[str]:
    """What is wrong with a Serve config: YAML, Ray's schema, names that the schema does not list, imports."""
    from ray.serve.schema import ServeDeploySchema

    try:
        config = yaml.safe_load(text)
        ServeDeploySchema.model_validate(config)
    except Exception as error:  # noqa: BLE001 - YAML's and pydantic's
        yield " ".join(str(error).split())[:300]
        return
    if not config:
        yield "it is empty"
        return
    yield from _unlisted(config, ServeDeploySchema, "")
    for path in config.get("grpc_options", {}).get("grpc_servicer_functions", ()):
        if not _importable(path.rpartition(".")):
            yield f"there is no function {path}"
    for application in config.get("applications", ()):
        for deployment in application.get("deployments", ()):
            if deployment["name"] not in DEPLOYMENTS:
                yield f"there is no deployment {deployment['name']}"
        if not _importable(application["import_path"].partition(":")):
            yield f"there is no application {application['import_path']}"


def _importable(parts: tuple[str, str, str]) -> bool:
    module, _, name = parts
    try:
        return hasattr(importlib.import_module(module), name)
    except ImportError:
        return False


def _unlisted(value: Any, model: Any, path: str) -> Iterator[str]:
    """Keys that Ray's models would drop in silence."""
    if isinstance(value, list):
        for number, part in enumerate(value):
            yield from _unlisted(part, model, f"{path}.{number}")
    if not isinstance(value, dict) or not (isinstance(model, type) and issubclass(model, BaseModel)):
        return
    fields = {field.alias or name: field for name, field in model.model_fields.items()} | dict(
        model.model_fields
    )
    for key, part in value.items():
        if key not in fields:
            yield f"{path or 'top level'} has no {key!r}"
            continue
        for inner in _models(fields[key].annotation):
            yield from _unlisted(part, inner, f"{path}.{key}".strip("."))


def _models(annotation: Any) -> Iterator[type[BaseModel]]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        yield annotation
    for argument in typing.get_args(annotation):
        yield from _models(argument)


def _draining(service: Object) -> Iterator[str]:
    """Everything that ends a process waits as long as the longest request takes."""
    spec = service["spec"]
    config = yaml.safe_load(spec.get("serveConfigV2", "")) or {}
    longest = config.get("grpc_options", {}).get("request_timeout_s", 0)
    waits = {"rayClusterDeletionDelaySeconds": spec.get("rayClusterDeletionDelaySeconds", 60)}
    for path, template in _templates(service):
        waits[path] = template["spec"].get("terminationGracePeriodSeconds", 30)
    for application in config.get("applications", ()):
        for deployment in application.get("deployments", ()):
            waits[deployment["name"]] = deployment.get("graceful_shutdown_timeout_s", 20)
    for what, seconds in waits.items():
        if seconds < longest:
            name = service["metadata"].get("name")
            yield f"RayService/{name}: {what} waits {seconds} s, a request may take {longest} s"
