"""One of two generation nodes is killed under load: what does a caller of the client library see of it?

Two Ray nodes on this machine, each with a replica of the generator and of the gateway; PostgreSQL and a server of the
S3 protocol hold everything. Requests come at a constant rate, whatever became of those before.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from benchmarks.cluster.databases import database
from benchmarks.cluster.object_server import BUCKET, object_server
from benchmarks.cluster.ray_nodes import RayNodes, ray_nodes
from benchmarks.load import ConstantLoad, Order, Sample, saturated_s
from benchmarks.system import BenchmarkSystem, running_system

PROMPTS = ("neutrophil", "monocyte", "lymphocyte", "eosinophil")
STEPS = 4
START_S = 900.0


@dataclass(frozen=True)
class NodeLoss:
    """What became of the requests while a node was lost."""

    samples: Sequence[Sample]
    killed_at: float
    every_s: float
    replicas: int
    """Of the generator on the node that was killed."""

    @property
    def failures(self) -> list[str]:
        return [sample.error for sample in self.samples if sample.error]

    @property
    def slowest_s(self) -> float:
        """Of the requests that were under way at the kill, or came later."""
        return max(sample.seconds for sample in self.samples if sample.ended > self.killed_at)


def measure(
    folder: Path, *, utilisation: float = 0.6, before_s: float = 30.0, after_s: float = 90.0
) -> NodeLoss:
    """Kill a node `before_s` into the load; it goes on for `after_s`."""
    with object_server() as objects, database("postgresql") as url:
        stores = {
            **objects,
            "VOUCH_CATALOG_URL": url,
            "VOUCH_BLOBS_URL": f"s3://{BUCKET}/blobs",
            "VOUCH_MODELS_URL": f"s3://{BUCKET}/models",
        }
        with ray_nodes(stores, cpus=(2, 2)) as nodes:
            settings = {
                **nodes.environment,
                "VOUCH_GENERATION__REPLICAS": "2",
                "VOUCH_GENERATION__COMPILE": "false",
                "VOUCH_GENERATION__THREADS": "1",
                "VOUCH_SERVER__GATEWAYS": "2",
            }
            with running_system(folder / "state", timeout_s=START_S, **settings) as (system, _):
                return _under_load(system, nodes, utilisation, before_s, after_s)


def _under_load(
    system: BenchmarkSystem, nodes: RayNodes, utilisation: float, before_s: float, after_s: float
) -> NodeLoss:
    orders = [Order(prompt, seed, STEPS) for seed in range(6) for prompt in PROMPTS]
    every_s = saturated_s(system.state, orders) / utilisation
    doomed = next(iter(nodes.cluster.worker_nodes))
    replicas = nodes.replicas(doomed, "generation")
    with ConstantLoad(system.state, orders, every_s=every_s) as load:
        time.sleep(before_s)
        killed_at = time.monotonic()
        nodes.kill(doomed)
        time.sleep(after_s)
    return NodeLoss(load.samples, killed_at, every_s, replicas)
