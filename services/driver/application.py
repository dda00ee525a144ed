"""What Ray Serve runs: the gateway, with handles to the deployments that it calls, and the doors that lead to it."""

from __future__ import annotations

import logging
from typing import Any

from ray import serve
from ray.serve.config import (
    AutoscalingConfig,
    AutoscalingPolicy,
    HTTPOptions,
    RequestRouterConfig,
    gRPCOptions,
)
from ray.serve.schema import LoggingConfig

from services.environment import ROUTER_IN_OWN_LOOP
from services.ports import free_range
from vouch.settings import GenerationSettings, Settings

log = logging.getLogger("vouch.system")

APPLICATION = "vouch"
STOP_S = 20.0
HEALTH_CHECK_S = 1.0
"""Seconds between two looks at a replica: one that is gone is replaced that much later."""
SERVICERS = ["services.ingress.add_services"]


def start_serve(settings: Settings) -> None:
    """Open the doors; nothing is behind them yet."""
    logging.getLogger("ray.serve").setLevel(logging.WARNING)
    server = settings.server
    tls = server.tls_cert is not None
    http = HTTPOptions(host=server.host, port=server.http_port)
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
    serve.run(_application(settings), name=APPLICATION, route_prefix="/", logging_config=_logging())


def stop_jobs() -> None:
    """End the training process; its run is resumed at the next start."""
    try:
        serve.get_deployment_handle("operations", APPLICATION).stop.remote().result(timeout_s=STOP_S)
    except Exception as error:  # noqa: BLE001 - whatever is left of it, the system still has to come down
        log.warning("the training process was not ended in order: %s", error)


def _logging() -> LoggingConfig:
    """A line for every request of every replica would cost a tenth of a short request's time; metrics count them."""
    return LoggingConfig(log_level="WARNING", enable_access_log=False)


def _application(settings: Settings) -> Any:
    """The gateway with handles to everything it calls."""
    from services.feedback.app import Feedback
    from services.gateway.app import Gateway
    from services.generation.app import Generation
    from services.operations.app import Operations
    from services.reward.app import Reward
    from services.web.app import web

    generation = _deployment(Generation, settings.generation.replicas, settings.generation.max_ongoing)
    generation = generation.options(
        ray_actor_options={**_actor(), "num_gpus": settings.generation.gpus}, **_replicas(settings.generation)
    )
    reward = _deployment(Reward, settings.reward.replicas, settings.reward.max_ongoing)
    drawn, scored = generation.bind(settings), reward.bind(settings)
    gateway = _deployment(serve.ingress(web)(Gateway), 1, 1000, name="Gateway")
    return gateway.options(ray_actor_options=_actor(ROUTER_IN_OWN_LOOP)).bind(
        settings,
        drawn,
        scored,
        _deployment(Feedback, 1, 200).bind(settings),
        _deployment(Operations, 1, 200).bind(settings, drawn, scored),
    )


def _replicas(settings: GenerationSettings) -> dict[str, Any]:
    """How requests find their replica where there may be several, and how many there are when that is not fixed."""
    from services.generation.router import FreeSlotsRouter
    from services.generation.routing import REPORT_S

    if settings.most_replicas == 1:
        return {}
    router = RequestRouterConfig(
        request_router_class=FreeSlotsRouter, request_routing_stats_period_s=REPORT_S
    )
    if settings.most_replicas == settings.replicas:
        return {"request_router_config": router}
    return {"request_router_config": router, "num_replicas": None, "autoscaling_config": _scaling(settings)}


def _scaling(settings: GenerationSettings) -> Any:
    from services.generation import scaling

    return AutoscalingConfig(
        min_replicas=settings.replicas,
        max_replicas=settings.most_replicas,
        upscale_delay_s=scaling.GROW_AFTER_S,
        downscale_delay_s=settings.idle_s,
        metrics_interval_s=scaling.REPORT_S,  # what is to replace it does nothing yet in Ray 2.60
        look_back_period_s=scaling.MEAN_OVER_S,
        policy=AutoscalingPolicy(
            policy_function=scaling.QueuedSlots, policy_kwargs={"slots": settings.max_batch}
        ),
    )


def _deployment(kind: type, replicas: int, max_ongoing: int, name: str = "") -> Any:
    return serve.deployment(
        kind,
        name=(name or kind.__name__).lower(),
        num_replicas=replicas,
        max_ongoing_requests=max_ongoing,
        max_queued_requests=max_ongoing * 4,
        ray_actor_options=_actor(),
        health_check_period_s=HEALTH_CHECK_S,
        health_check_timeout_s=60,
        graceful_shutdown_wait_loop_s=0.1,
        graceful_shutdown_timeout_s=5,
    )


def _actor(environment: dict[str, str] | None = None) -> dict[str, Any]:
    options: dict[str, Any] = {"num_cpus": 0.1}
    return {**options, "runtime_env": {"env_vars": environment}} if environment else options
