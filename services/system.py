"""One running system on one state folder: starts Ray and Serve, deploys the application, ends it all cleanly.

python -m services.system        # what `vouch up` becomes; settings come from the environment
"""

from __future__ import annotations

import argparse
import contextlib
import json
import logging
import os
import shutil
import signal
import sys
import tempfile
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from services import loopback
from services.environment import ROUTER_IN_OWN_LOOP, prepare_environment
from services.ports import free_range, is_free
from services.starter import check_models, publish_models
from services.tokens import default_tokens
from vouch.errors import FailedPrecondition, VouchError
from vouch.settings import Access, GenerationSettings, Settings, StateFolder, load_settings

log = logging.getLogger("vouch.system")

APPLICATION = "vouch"
OBJECT_STORE_BYTES = 100 * 2**20
STOP_S = 30.0
RAY_ATTEMPTS = 3
SERVICERS = [
    f"vouch.pb.v1.{name}_pb2_grpc.add_{name.capitalize()}ServiceServicer_to_server"
    for name in ("generation", "reward", "feedback", "models", "rollout", "training")
]


class System:
    """A system that runs. `System.start(settings)` returns when it answers; `stop()` ends it.

    Example:
        with System.start(settings) as system:
            print(system.access.address)
    """

    def __init__(self, settings: Settings, access: Access, cleanup: contextlib.ExitStack) -> None:
        self.settings, self.access = settings, access
        self._cleanup = cleanup

    @classmethod
    def start(cls, settings: Settings, tell: Callable[[str], None] = lambda line: None) -> System:
        """Start everything. One system for each process.

        Raises FailedPrecondition (state folder in use, a port taken, no GPU), InvalidInput (a model that is none),
        StorageFull.
        """
        with contextlib.ExitStack() as cleanup:
            cleanup.enter_context(settings.folder.lock())
            _check_ports(settings)
            check_models(settings)
            scratch = cleanup.enter_context(_scratch(tell))
            prepare_environment(settings, scratch)
            tell("starting Ray and loading the models ...")
            with ThreadPoolExecutor(1) as beside:
                published = beside.submit(publish_models, settings)
                cleanup.callback(_stop_ray)
                _start_ray(scratch)
                _check_gpus(settings.generation)
                _start_serve(settings)
                published.result()
            access = _access(settings)
            cleanup.callback(_stop_jobs)
            _deploy(settings)
            loopback.check_ports(settings.server)
            settings.folder.write_access(access)
            return cls(settings, access, cleanup.pop_all())

    def stop(self) -> None:
        """End training (resumed at the next start), then Serve and Ray; let go of the state folder."""
        self._cleanup.close()

    def __enter__(self) -> System:
        return self

    def __exit__(self, *exc: object) -> None:
        self.stop()


@contextlib.contextmanager
def _scratch(tell: Callable[[str], None]) -> Iterator[Path]:
    """Ray's short-lived files. Their paths must be short, so they are not in the state folder. Kept on failure."""
    folder = Path(tempfile.mkdtemp(prefix="vouch-"))
    try:
        yield folder
    except VouchError:
        shutil.rmtree(folder, ignore_errors=True)
        raise
    except BaseException:
        tell(f"the logs of Ray are in {folder}/ray*/session_latest/logs")
        raise
    shutil.rmtree(folder, ignore_errors=True)


def _check_ports(settings: Settings) -> None:
    server = settings.server
    for name, port in (("grpc_port", server.grpc_port), ("http_port", server.http_port)):
        if not is_free(port, server.host):
            option = name.replace("_", "-")
            raise FailedPrecondition(
                f"Port {port} is taken by another program: stop it, or choose another with --{option}.",
                "PORT_TAKEN",
            )


def _start_ray(scratch: Path) -> None:
    """A machine that is busy with something else can be too slow for Ray's own patience: then once more."""
    import ray

    for attempt in range(RAY_ATTEMPTS):
        try:
            _init_ray(scratch / f"ray{attempt}")
            return
        except (Exception, SystemExit):
            ray.shutdown()
            _kill_children()  # a start that broke off half-way leaves processes that Ray no longer knows
            if attempt + 1 == RAY_ATTEMPTS:
                raise


def _kill_children() -> None:
    import psutil

    children = psutil.Process().children(recursive=True)
    for child in children:
        with contextlib.suppress(psutil.NoSuchProcess):
            child.kill()
    psutil.wait_procs(children, timeout=10)


def _init_ray(folder: Path) -> None:
    import ray

    ray.init(
        address="local",
        num_cpus=max(4, os.cpu_count() or 1),  # logical: replicas and training jobs ask for fractions
        include_dashboard=False,
        object_store_memory=OBJECT_STORE_BYTES,
        log_to_driver=False,
        logging_level=logging.ERROR,
        configure_logging=False,
        _temp_dir=str(folder),
        _node_ip_address=loopback.HOST,
        runtime_env={"worker_process_setup_hook": loopback.SETUP_HOOK},
    )


def _check_gpus(settings: GenerationSettings) -> None:
    """Serve would wait for them for ever."""
    import ray

    there, wanted = ray.cluster_resources().get("GPU", 0), settings.gpus * settings.replicas
    if wanted > there:
        raise FailedPrecondition(
            f"The generation replicas want {wanted:g} GPUs and Ray finds {there:g}. Set VOUCH_GENERATION__GPUS=0 to "
            "draw on the CPU.",
            "NO_GPU",
        )


def _start_serve(settings: Settings) -> None:
    from ray import serve

    logging.getLogger("ray.serve").setLevel(logging.WARNING)
    from ray.serve.config import HTTPOptions, gRPCOptions

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


def _logging() -> Any:
    """A line for every request of every replica would cost a tenth of a short request's time; metrics count them."""
    from ray.serve.schema import LoggingConfig

    return LoggingConfig(log_level="WARNING", enable_access_log=False)


def _deploy(settings: Settings) -> None:
    from ray import serve

    serve.run(_application(settings), name=APPLICATION, route_prefix="/", logging_config=_logging())


def _application(settings: Settings) -> Any:
    """The gateway with handles to everything it calls."""
    from ray import serve

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
    from ray.serve.config import RequestRouterConfig

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
    from ray.serve.config import AutoscalingConfig, AutoscalingPolicy

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
    from ray import serve

    return serve.deployment(
        kind,
        name=(name or kind.__name__).lower(),
        num_replicas=replicas,
        max_ongoing_requests=max_ongoing,
        max_queued_requests=max_ongoing * 4,
        ray_actor_options=_actor(),
        health_check_period_s=5,
        health_check_timeout_s=60,
        graceful_shutdown_wait_loop_s=0.1,
        graceful_shutdown_timeout_s=5,
    )


def _actor(environment: dict[str, str] | None = None) -> dict[str, Any]:
    options: dict[str, Any] = {"num_cpus": 0.1}
    return {**options, "runtime_env": {"env_vars": environment}} if environment else options


def _access(settings: Settings) -> Access:
    server = settings.server
    host = f"[{server.host}]" if ":" in server.host else server.host
    tls = server.tls_cert is not None
    return Access(
        address=f"{'grpcs://' if tls else ''}{host}:{server.grpc_port}",
        http=f"{'https' if tls else 'http'}://{host}:{server.http_port}",
        tokens=default_tokens(settings) if server.auth else {},
    )


def _stop_jobs() -> None:
    from ray import serve

    try:
        serve.get_deployment_handle("operations", APPLICATION).stop.remote().result(timeout_s=STOP_S)
    except Exception as error:  # noqa: BLE001 - whatever is left of it, the system still has to come down
        log.warning("the training process was not ended in order: %s", error)


def _stop_ray() -> None:
    import ray

    if ray.is_initialized():
        ray.shutdown()


def main(arguments: list[str] | None = None) -> int:
    """Run until interrupted. The exit code is the error's."""
    parser = argparse.ArgumentParser(prog="python -m services.system", description=__doc__)
    parser.add_argument("--json", action="store_true", help="print the addresses as one line of JSON")
    options = parser.parse_args(arguments)
    ended = threading.Event()
    try:
        _on_signals(_interrupt)
        settings = load_settings()
        with System.start(settings, tell=_say) as system:
            _on_signals(lambda *_: ended.set())
            _announce(system, as_json=options.json)
            ended.wait()
            _say("stopping ...")
    except VouchError as error:
        _say(f"error: {error.message}")
        return error.exit_code
    except KeyboardInterrupt:
        return 130
    except Exception as error:  # Ray's own: nobody who starts a system should have to read a traceback
        if os.environ.get("VOUCH_DEBUG") == "1":
            raise
        _say(f"error: The system broke off ({type(error).__name__}: {error}). VOUCH_DEBUG=1 shows where.")
        return 1
    return 0


def _on_signals(act: Callable[..., None]) -> None:
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, act)


def _interrupt(*_: object) -> None:
    raise KeyboardInterrupt


def _announce(system: System, *, as_json: bool) -> None:
    access, folder = system.access, system.settings.folder
    if as_json:
        told = {
            "address": access.address,
            "http": access.http,
            "state": str(folder.root),
            "access": str(folder.access),
        }
        sys.stdout.write(json.dumps(told) + "\n")
    else:
        sys.stdout.write(_greeting(access, folder))
    sys.stdout.flush()


def _greeting(access: Access, folder: StateFolder) -> str:
    return (
        f"vouch is up.\n  gRPC    {access.address}\n  web     {access.http}\n  state   {folder.root}\n"
        f"  tokens  {folder.access}\nTry: vouch generate neutrophil --state {folder.root}    (Ctrl-C ends the system)\n"
    )


def _say(line: str) -> None:
    sys.stderr.write(line + "\n")
    sys.stderr.flush()


if __name__ == "__main__":
    raise SystemExit(main())
