"""The web side of the one ingress: a page that says what runs, /metrics, /healthz; and gRPC's own health service."""

from __future__ import annotations

import json
import os
from html import escape
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fastapi import FastAPI
from fastapi.responses import HTMLResponse, PlainTextResponse, Response
from ray import serve

from services import metrics
from services.environment import TLS_ADDRESS, TLS_FILES

if TYPE_CHECKING:
    from services.overview import Overview, RunOverview, SlotOverview

SERVICES = (
    "",
    "vouch.v1.GenerationService",
    "vouch.v1.RewardService",
    "vouch.v1.FeedbackService",
    "vouch.v1.ModelsService",
    "vouch.v1.RolloutService",
    "vouch.v1.TrainingService",
)

web = FastAPI(title="vouch", docs_url=None, redoc_url=None, openapi_url=None)


@web.get("/", response_class=HTMLResponse)
async def index() -> str:
    """What runs."""
    return page(await serve.get_replica_context().servable_object.overview())


@web.get("/metrics")
async def metrics_page() -> Response:
    """Every process of this node, for Prometheus."""
    return Response(metrics.page(), media_type="text/plain; version=0.0.4; charset=utf-8")


@web.get("/healthz", response_class=PlainTextResponse)
async def healthz() -> str:
    """Answers when the gateway does."""
    return "ok\n"


def add_health(servicer: Any, server: Any) -> None:
    """Register grpc.health.v1 beside the contract's services (Serve calls this before its server starts)."""
    from grpc_health.v1 import health_pb2, health_pb2_grpc
    from grpc_health.v1.health import aio

    if hasattr(server, "add_passthrough_service"):
        server.add_passthrough_service("grpc.health.v1.Health")
    health = aio.HealthServicer()
    # The servicer's own setter is a coroutine, and no loop runs yet here.
    health._server_status.update(dict.fromkeys(SERVICES, health_pb2.HealthCheckResponse.SERVING))
    health_pb2_grpc.add_HealthServicer_to_server(health, server)


def add_tls(servicer: Any, server: Any) -> None:
    """Open the port that speaks TLS, where there is a certificate. Serve opens only a plain one, which is then a port
    that nobody is told of."""
    import grpc

    if TLS_FILES not in os.environ:  # one Serve config names this function with and without a certificate
        return
    pair = [Path(name).read_bytes() for name in json.loads(os.environ[TLS_FILES])]
    server.add_secure_port(os.environ[TLS_ADDRESS], grpc.ssl_server_credentials([(pair[0], pair[1])]))


# ---- the page


def page(overview: Overview) -> str:
    """The overview as HTML. Everything that came from outside is escaped."""
    return _PAGE.format(
        version=escape(str(overview["version"])),
        started=escape(str(overview["started_at"])),
        slots="".join(_slot(slot) for slot in overview["slots"]),
        runs="".join(_run(run) for run in overview["runs"]) or '<tr><td colspan="4">none yet</td></tr>',
        counts="".join(f"<li>{value:,} {escape(name)}</li>" for name, value in overview["counts"].items()),
    )


def _slot(slot: SlotOverview) -> str:
    candidate = f"{escape(slot['candidate'])} ({slot['percent']} %)" if slot["candidate"] else "–"
    state = "in step" if slot["converged"] else escape(slot["reason"] or "converging")
    return (
        f"<tr><td>{escape(slot['slot'])}</td><td title='{escape(slot['digest'])}'>{escape(slot['champion'])}</td>"
        f"<td>{candidate}</td><td>{slot['replicas']}</td><td>{state}</td></tr>"
    )


def _run(run: RunOverview) -> str:
    return (
        f"<tr><td>{escape(run['id'])}</td><td>{escape(run['state'])}</td>"
        f"<td>{run['step']} / {run['total_steps'] or '?'}</td><td>{escape(run['message'])}</td></tr>"
    )


_PAGE = """<!doctype html>
<html lang="en">
<meta charset="utf-8">
<meta http-equiv="refresh" content="10">
<title>vouch</title>
<style>
 body {{ font: 16px/1.5 system-ui, sans-serif; max-width: 60rem; margin: 2rem auto; padding: 0 1rem }}
 table {{ border-collapse: collapse; margin: .5rem 0 1.5rem }}
 th, td {{ text-align: left; padding: .25rem 1rem .25rem 0; border-bottom: 1px solid #ddd }}
</style>
<h1>vouch {version}</h1>
<p>Synthetic medical images that experts vouch for. Up since {started} UTC.</p>
<h2>Serving</h2>
<table><tr><th>slot</th><th>champion</th><th>candidate</th><th>replicas</th><th>state</th></tr>{slots}</table>
<h2>Latest training runs</h2>
<table><tr><th>run</th><th>state</th><th>step</th><th></th></tr>{runs}</table>
<h2>Kept</h2>
<ul>{counts}</ul>
<p><a href="/metrics">metrics</a> · <a href="/healthz">health</a> · gRPC with reflection: <code>grpcurl -plaintext
-H "authorization: Bearer $TOKEN" HOST:PORT list</code></p>
</html>
"""
