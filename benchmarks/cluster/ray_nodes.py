"""Several Ray nodes on this machine, as `ray start` would start them on several."""

from __future__ import annotations

import contextlib
import json
import os
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

ENVIRONMENT = {
    "RAY_AUTH_MODE": "disabled",  # these nodes listen on loopback alone
    "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0",
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_agent_register_timeout_ms": "180000",  # a machine that is busy with something else is slow to start an agent
    "RAY_gcs_server_port_wait_time_s": "120",
    "RAY_worker_niceness": "0",
}
OBJECT_STORE_BYTES = 100 * 2**20
START_S = 300.0
"""Seconds for a node to start on a machine that is busy with something else. Ray itself gives it 30."""


class RayNodes:
    """A head and its worker nodes. `environment` is what a process needs to serve or train on them."""

    def __init__(self, cluster: Any, environment: Mapping[str, str]) -> None:
        self.cluster = cluster
        self.environment = {**ENVIRONMENT, **environment, "VOUCH_RAY_ADDRESS": cluster.address}

    def add(self, cpus: float) -> Any:
        """A further node."""
        # Ray's hooks at exit are signal handlers, which only the main thread may set; `ray_nodes` ends nodes anyway.
        self.cluster._shutdown_at_exit = threading.current_thread() is threading.main_thread()
        return self.cluster.add_node(**_options(cpus))

    def kill(self, node: Any) -> None:
        """End a node's processes as a power cut would."""
        self.cluster.remove_node(node, allow_graceful=False)

    def alive(self) -> int:
        """Nodes that the head counts."""
        return len(self.cluster.global_state._live_node_ids())

    def serves(self) -> bool:
        """Whether Ray Serve runs on them."""
        return any(one["Name"] == "SERVE_CONTROLLER_ACTOR" for one in self._actors())

    def replicas(self, node: Any, deployment: str) -> int:
        """Living replicas of a deployment on a node."""
        here = (one for one in self._actors() if one["Address"]["NodeID"] == node.node_id)
        return sum(f"#{deployment}#" in one["Name"] for one in here)

    def _actors(self) -> list[dict[str, Any]]:
        actors = self.cluster.global_state.actor_table(None)
        return [one for one in actors.values() if one["State"] == "ALIVE"]

    @contextlib.contextmanager
    def said_to_be(self, **versions: str) -> Iterator[None]:
        """The head tells these versions (ray_version, python_version) in the place of its own."""
        from ray._common.usage import usage_constants, usage_lib
        from ray._private.ray_constants import KV_NAMESPACE_CLUSTER
        from ray._raylet import GcsClient

        client = GcsClient(address=self.cluster.address)
        true = usage_lib.get_cluster_metadata(client)
        key = usage_constants.CLUSTER_METADATA_KEY
        try:
            client.internal_kv_put(
                key, json.dumps({**true, **versions}).encode(), True, namespace=KV_NAMESPACE_CLUSTER
            )
            yield
        finally:
            client.internal_kv_put(key, json.dumps(true).encode(), True, namespace=KV_NAMESPACE_CLUSTER)


@contextlib.contextmanager
def ray_nodes(environment: Mapping[str, str], cpus: Sequence[float]) -> Iterator[RayNodes]:
    """A node for each entry of `cpus`, the head first; they and their processes inherit `environment`."""
    with _environment({**ENVIRONMENT, **environment}), _patience():
        from ray.cluster_utils import Cluster

        cluster = Cluster()
        try:
            cluster.add_node(**_options(cpus[0]), include_dashboard=False)
            nodes = RayNodes(cluster, environment)
            for count in cpus[1:]:
                nodes.add(count)
            yield nodes
        finally:
            cluster.shutdown()


@contextlib.contextmanager
def _patience() -> Iterator[None]:
    """Let Ray's question for a node that starts wait for it: how often Ray asks is no setting of it."""
    from ray._private import services

    ask = services.get_node

    def wait(*arguments: Any) -> Any:
        deadline = time.monotonic() + START_S
        while time.monotonic() < deadline:
            with contextlib.suppress(RuntimeError):
                return ask(*arguments)
            time.sleep(0.2)
        return ask(*arguments)

    services.get_node = wait
    try:
        yield
    finally:
        services.get_node = ask


def _options(cpus: float) -> dict[str, Any]:
    return {"num_cpus": cpus, "object_store_memory": OBJECT_STORE_BYTES}


@contextlib.contextmanager
def _environment(values: Mapping[str, str]) -> Iterator[None]:
    before = dict(os.environ)
    os.environ.update(values)
    try:
        yield
    finally:
        os.environ.clear()
        os.environ.update(before)
