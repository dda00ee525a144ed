"""A Ray cluster that runs already (`vouch up --ray-address`): checked first, served on, and left as it was found.

Whoever started the nodes owns them. vouch starts Serve there, with its doors and its application, and takes Serve down
again. What cannot work is refused while nothing has been started yet.
"""

from __future__ import annotations

import logging
import platform
import socket
from collections.abc import Mapping
from typing import Any

import ray
from ray import serve
from ray._common.usage import usage_lib
from ray._raylet import GcsClient
from ray.exceptions import RayError
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

import vouch
from services.driver.node import check_gpus
from services.driver.probe import NodeReport, catalog_digest, look
from services.environment import cluster_environment
from vouch.errors import FailedPrecondition, InvalidInput
from vouch.settings import Settings
from vouch.storage.catalog.database import SQLITE

REACH_S = 10.0
PROBE_S = 180.0
"""Seconds for a node's answer: its first process has to import vouch."""
SILENT_LOOKS = 20
"""Looks in a row at which the head does not answer before it counts as lost."""
HEAD = "node:__internal_head__"
"""The resource by which Ray marks its head."""


class JoinedCluster:
    """A connection to a cluster that is fit to serve."""

    def __init__(self, settings: Settings) -> None:
        """Raises InvalidInput or FailedPrecondition where vouch cannot serve on it; nothing was started then."""
        self._where = address_of(settings.ray_address)
        self._silent = 0
        check_reachable(settings.ray_address, self._where)
        check_versions(settings.ray_address, cluster_versions(settings.ray_address))
        _connect(settings)
        try:
            _check(settings)
        except BaseException:
            ray.shutdown()
            raise

    def lost(self) -> str:
        """What has ended, once the head has been silent for a while; "" while it answers."""
        self._silent = 0 if _answers(self._where, 1.0) else self._silent + 1
        return "" if self._silent < SILENT_LOOKS else "the head of the Ray cluster"

    def stop(self) -> None:
        """Take Serve down and leave."""
        if ray.is_initialized():
            serve.shutdown()
            ray.shutdown()


def address_of(text: str) -> tuple[str, int]:
    """Host and port of the cluster's head. Raises InvalidInput."""
    host, _, port = text.rpartition(":")
    if not host or not port.isdecimal() or "/" in host:
        raise InvalidInput(
            f"{text!r} is no address of a Ray cluster: give HOST:PORT of its head, as `ray start --head` prints it."
        )
    return host.strip("[]"), int(port)


def check_reachable(address: str, where: tuple[str, int]) -> None:
    """Raises FailedPrecondition where nobody listens."""
    if not _answers(where, REACH_S):
        raise FailedPrecondition(
            f"No Ray answers at {address}. Start its head with `ray start --head`, check the address, or leave "
            "--ray-address out for a Ray of vouch's own.",
            "NO_RAY",
        )


def _answers(where: tuple[str, int], timeout_s: float) -> bool:
    try:
        with socket.create_connection(where, timeout=timeout_s):
            return True
    except OSError:
        return False


def cluster_versions(address: str) -> Mapping[str, str]:
    """What the cluster's head says of itself: ray_version and python_version.

    Raises FailedPrecondition where what listens is no Ray, or one that wants another token.
    """
    try:
        metadata: dict[str, str] = usage_lib.get_cluster_metadata(GcsClient(address=address))
    except Exception as error:  # Ray has no class of its own for any of these
        last_line = str(error).strip().splitlines()[-1:] or [type(error).__name__]
        raise FailedPrecondition(
            f"What listens at {address} does not answer as a Ray that this user may use ({last_line[0][:200]}). A "
            "cluster with tokens wants RAY_AUTH_MODE=token and RAY_AUTH_TOKEN_PATH.",
            "NO_RAY",
        ) from error
    return metadata


def check_versions(address: str, metadata: Mapping[str, str]) -> None:
    """Raises FailedPrecondition where the cluster's Ray or Python is another than this one: their processes could not
    read each other's messages."""
    here = {"Ray": ray.__version__, "Python": platform.python_version()}
    there = {"Ray": metadata["ray_version"], "Python": metadata["python_version"]}
    for name, version in here.items():
        if there[name] != version:
            raise FailedPrecondition(
                f"The cluster at {address} runs {name} {there[name]}, and vouch is installed here with {name} "
                f"{version}. Install the same version on all of them.",
                "VERSIONS_DIFFER",
            )


def _connect(settings: Settings) -> None:
    ray.init(
        address=settings.ray_address,
        log_to_driver=False,
        logging_level=logging.ERROR,
        configure_logging=False,
        runtime_env={"env_vars": cluster_environment(settings)},
    )


# ---- what is looked at before anything starts


def _check(settings: Settings) -> None:
    nodes = [node for node in ray.nodes() if node["Alive"]]
    _check_head(nodes)
    check_stores(settings, len(nodes))
    check_gpus(settings.generation)
    _check_serve()
    _check_nodes(settings, nodes)


def _check_head(nodes: list[dict[str, Any]]) -> None:
    here = ray.get_runtime_context().get_node_id()
    if not any(node["NodeID"] == here and HEAD in node["Resources"] for node in nodes):
        raise FailedPrecondition(
            "This machine is not the head of the cluster, and the doors open there: run `vouch up` on the head.",
            "NOT_HEAD",
        )


def check_stores(settings: Settings, nodes: int) -> None:
    """Raises FailedPrecondition where several nodes would each look into a folder of their own."""
    local = {
        "VOUCH_CATALOG_URL": not settings.catalog_url or settings.catalog_url.startswith(SQLITE),
        "VOUCH_BLOBS_URL": not settings.blobs_url,
        "VOUCH_MODELS_URL": not settings.models_url,
    }
    missing = [name for name, is_local in local.items() if is_local]
    if nodes > 1 and missing:
        raise FailedPrecondition(
            f"The cluster has {nodes} nodes, which do not share the state folder of this one. Say where all of them "
            f"find catalog, images and versions: {', '.join(missing)} (PostgreSQL, and an object store).",
            "STORES_NOT_SHARED",
        )


def _check_serve() -> None:
    """Serve has one set of doors for a cluster, and vouch takes Serve down when it ends."""
    try:
        ray.get_actor("SERVE_CONTROLLER_ACTOR", namespace="serve")
    except ValueError:
        return
    raise FailedPrecondition(
        "Ray Serve runs on this cluster already: another vouch, one that was killed, or an application of yours. Take "
        "it down with `serve shutdown`, or put vouch beside it with `serve deploy deploy/serve.yaml`.",
        "SERVE_RUNS",
    )


def _check_nodes(settings: Settings, nodes: list[dict[str, Any]]) -> None:
    """Raises FailedPrecondition where a node has not the same vouch, or does not know the catalog."""
    probe = ray.remote(num_cpus=0, max_retries=0)(look)
    places = [NodeAffinitySchedulingStrategy(node["NodeID"], soft=False) for node in nodes]
    folder = str(settings.folder.root)
    answers = [probe.options(scheduling_strategy=place).remote(folder) for place in places]
    for node, answer in zip(nodes, answers, strict=True):
        name = str(node["NodeManagerHostname"])
        try:
            check_node(settings, name, ray.get(answer, timeout=PROBE_S))
        except RayError as error:
            last = str(error).strip().splitlines()[-1]
            raise FailedPrecondition(
                f"Node {name} of the cluster cannot run vouch ({last[:200]}). Install vouch {vouch.__version__} with "
                "the extra `server` there.",
                "NODE_WITHOUT_VOUCH",
            ) from error


def check_node(settings: Settings, name: str, report: NodeReport) -> None:
    """Raises FailedPrecondition where this node would not serve as this one does."""
    if report.version != vouch.__version__:
        raise FailedPrecondition(
            f"Node {name} has vouch {report.version}, and this one {vouch.__version__}: install the same everywhere.",
            "VERSIONS_DIFFER",
        )
    if settings.server.auth and report.catalog != catalog_digest(settings.resolved_catalog_url):
        raise FailedPrecondition(
            f"Node {name} does not know this catalog, in which its door would look tokens up. Start its Ray with the "
            "same VOUCH_CATALOG_URL in the environment, as that of the stores' keys.",
            "NODE_WITHOUT_CATALOG",
        )
