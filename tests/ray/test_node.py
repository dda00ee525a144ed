"""The machine's side of a system: health, reflection, metrics, the page, and the RPCs it has."""

from __future__ import annotations

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha.proto_reflection_descriptor_database import ProtoReflectionDescriptorDatabase

from services import loopback
from services.gateway.app import Gateway
from tests.ray.conftest import listening, until
from vouch.errors import InvalidInput
from vouch.rpcs import RPCS

pytestmark = [pytest.mark.ray, pytest.mark.timeout(900)]

NAMES = ("Generation", "Reward", "Feedback", "Models", "Rollout", "Training")
SERVICES = {f"vouch.v1.{name}Service" for name in NAMES}


def test_the_gateway_has_a_method_for_every_rpc():
    assert all(callable(getattr(Gateway, name, None)) for name in RPCS)


@pytest.mark.parametrize("service", ["", "vouch.v1.GenerationService"])
def test_the_standard_health_service_says_serving(system, service):
    with grpc.insecure_channel(system.address) as channel:
        answer = health_pb2_grpc.HealthStub(channel).Check(
            health_pb2.HealthCheckRequest(service=service), timeout=30
        )
    assert answer.status == health_pb2.HealthCheckResponse.SERVING


def test_reflection_lists_the_services(system):
    with grpc.insecure_channel(system.address) as channel:
        database = ProtoReflectionDescriptorDatabase(channel)
        names = set(database.get_services())
        found = database.FindFileContainingSymbol("vouch.v1.GenerationService")
    assert SERVICES | {"grpc.health.v1.Health"} <= names
    assert found.package == "vouch.v1"


def test_metrics_count_calls_by_code_and_hold_nothing_but_ours(system, client):
    with pytest.raises(InvalidInput):
        client.generate_images("neutrophil", count=0)
    client.generate_images("neutrophil")
    page = system.get("/metrics")
    assert 'vouch_requests_total{code="INVALID_ARGUMENT",method="GenerateImages"}' in page
    assert 'vouch_request_seconds_bucket{le="0.005",method="GenerateImages"}' in page
    assert system.metric("vouch_images_total") >= 1
    assert system.metric("vouch_scores_total") >= 1
    names = {line.split()[2] for line in page.splitlines() if line.startswith("# TYPE")}
    assert all(name.startswith("vouch_") for name in names)


def test_the_page_says_what_runs(system, client):
    until(lambda: "in step" in system.get("/"))
    page = system.get("/")
    assert "generator-first" in page
    assert "reward-judge" in page


def test_the_health_page_answers(system):
    assert system.get("/healthz") == "ok\n"


def test_tokens_are_readable_by_their_owner_alone(system):
    assert system.folder.access.stat().st_mode & 0o077 == 0
    assert set(system.folder.read_access().tokens) == {"client", "rater", "operator"}


def test_every_port_of_every_process_listens_on_loopback(system):
    """GCS, raylet, agents, replicas, HAProxy and its statistics: one empty message to some of them ends Ray."""
    ports = listening(system.process)
    names = " ".join(name for name, _, _ in ports)
    assert all(part in names for part in ("gcs_server", "raylet", "haproxy", "ray::ServeReplica"))
    assert [port for port in ports if not loopback.is_loopback(port[1])] == []
