"""Serve on one machine: its doors, and the application behind them."""

from __future__ import annotations

import logging

from ray import serve
from ray.serve.config import HTTPOptions, gRPCOptions
from ray.serve.schema import LoggingConfig

from services import application, loopback
from services.environment import front_of
from services.ports import free_range
from vouch.settings import Settings

log = logging.getLogger("vouch.system")

STOP_S = 20.0
SERVICERS = ["services.ingress.add_services"]


def start_serve(settings: Settings) -> None:
    """Open the doors; nothing is behind them yet."""
    logging.getLogger("ray.serve").setLevel(logging.WARNING)
    server = settings.server
    tls = server.tls_cert is not None
    host = loopback.HOST if front_of(settings) else server.host
    http = HTTPOptions(host=host, port=server.http_port)
    if tls:
        http = HTTPOptions(
            host=server.host,
            port=server.http_port,
            ssl_certfile=str(server.tls_cert),
            ssl_keyfile=str(server.tls_key),
        )
    more = ["services.web.app.add_health", *(["services.web.app.add_tls"] if tls else [])]
    serve.start(
        http_options=http,
        grpc_options=gRPCOptions(
            port=free_range(1) if tls else server.grpc_port, grpc_servicer_functions=[*SERVICERS, *more]
        ),
        logging_config=_logging(),
    )


def deploy(settings: Settings) -> None:
    """Returns when every replica has loaded what it serves, or has reported why it cannot."""
    serve.run(application.graph(settings), name=application.NAME, route_prefix="/", logging_config=_logging())


def stop_jobs() -> None:
    """End the training process; its run is resumed at the next start."""
    try:
        serve.get_deployment_handle("operations", application.NAME).stop.remote().result(timeout_s=STOP_S)
    except Exception as error:  # noqa: BLE001 - whatever is left of it, the system still has to come down
        log.warning("the training process was not ended in order: %s", error)


def _logging() -> LoggingConfig:
    """A line for every request of every replica would cost a tenth of a short request's time; metrics count them."""
    return LoggingConfig(log_level="WARNING", enable_access_log=False)
