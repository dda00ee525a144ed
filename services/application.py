"""The application graph: what Ray Serve runs. The gateway, with handles to the deployments that it calls.

`build` is for `serve deploy` and KubeRay, which name it as `services.application:build`. One machine starts the same
graph by `services.driver`.
"""

from __future__ import annotations

from typing import Any

from ray import serve
from ray.serve import Application, Deployment
from ray.serve.config import AutoscalingConfig, AutoscalingPolicy, RequestRouterConfig

from services.environment import ROUTER_IN_OWN_LOOP
from vouch.settings import GenerationSettings, Settings, load_settings

NAME = "vouch"
HEALTH_CHECK_S = 1.0
"""Seconds between two looks at a replica: one that is gone is replaced that much later."""


def build(arguments: dict[str, Any]) -> Application:
    """The application of a Serve config.

    arguments: fields of `vouch.settings.Settings`, as `args` of the config says them. What they leave out comes from
    the environment (VOUCH_...), then from the settings file, then from the defaults.

    Raises:
        InvalidInput: an argument that is no setting, or is out of range.
    """
    return graph(load_settings(**arguments))


def graph(settings: Settings) -> Application:
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
    gateway = _deployment(serve.ingress(web)(Gateway), settings.server.gateways, 1000, name="Gateway")
    return gateway.options(ray_actor_options=_actor(ROUTER_IN_OWN_LOOP)).bind(
        settings,
        drawn,
        scored,
        _deployment(Feedback, 1, 200).bind(settings),
        _deployment(Operations, 1, 200).bind(settings, drawn, scored),
    )


def _replicas(settings: GenerationSettings) -> dict[str, object]:
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


def _scaling(settings: GenerationSettings) -> AutoscalingConfig:
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


def _deployment(kind: type, replicas: int, max_ongoing: int, name: str = "") -> Deployment:
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


def _actor(environment: dict[str, str] | None = None) -> dict[str, object]:
    options: dict[str, object] = {"num_cpus": 0.1}
    return {**options, "runtime_env": {"env_vars": environment}} if environment else options
