"""Binds internal ports to the loopback address, and reports those that other machines can reach.

Ray trusts its network: one empty message to its control ports ends a cluster, token or not. On one machine no other
machine needs these ports, so three measures keep them on 127.0.0.1:

1. `ENVIRONMENT` makes Ray name its node 127.0.0.1; GCS, raylet, workers and agents then listen there alone.
2. `bind_inner_ports`, run by Ray in each of its worker processes, does the same for Serve's servers, which ask for
   "[::]" whatever the node's address is, and for the statistics of HAProxy.
3. `open_ports` lists what listens elsewhere after all. `services.system` refuses to serve with such a port.
"""

from __future__ import annotations

import ipaddress
import os
from collections.abc import Collection, Iterable
from dataclasses import dataclass
from typing import Any

from services import limits
from vouch.errors import FailedPrecondition
from vouch.settings import ServerSettings

HOST = "127.0.0.1"
# Ray's switch for systems whose firewall asks about every open port: the node is then called 127.0.0.1. The name is
# older than its use on Linux; a test lists every port of a running system.
ENVIRONMENT = {"RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0"}
SETUP_HOOK = "services.loopback.bind_inner_ports"
FRONT = "SERVICES_FRONT_HOST"
"""Where HAProxy listens, if that is an IPv6 address: Serve's servers behind it are asked by IPv4."""
_EVERYWHERE = ("[::]:", "0.0.0.0:", "*:")


@dataclass(frozen=True)
class OpenPort:
    """A port that other machines can reach."""

    address: str
    port: int
    program: str

    def __str__(self) -> str:
        return f"{self.address} port {self.port} ({self.program})"


def bind_inner_ports() -> None:
    """Ray's `worker_process_setup_hook`: runs once in each worker process, before any of Serve's servers starts."""
    from grpc.aio._server import Server  # grpc.aio.Server is its abstract base
    from ray.serve._private import haproxy, haproxy_templates

    add_port = Server.add_insecure_port
    Server.add_insecure_port = lambda server, address: add_port(server, on_loopback(address))
    for module in (haproxy, haproxy_templates):
        template = haproxy_on_loopback(module.HAPROXY_CONFIG_TEMPLATE)
        template = haproxy_on_front(template, os.environ.get(FRONT, ""))
        module.HAPROXY_CONFIG_TEMPLATE = haproxy_without_silent(template)


def on_loopback(address: str) -> str:
    """ "[::]:50051" -> "127.0.0.1:50051"; an address that names an interface stays."""
    everywhere = next((prefix for prefix in _EVERYWHERE if address.startswith(prefix)), None)
    return address if everywhere is None else f"{HOST}:{address.removeprefix(everywhere)}"


def haproxy_on_loopback(template: str) -> str:
    """The template of HAProxy's configuration with its statistics and metrics on loopback; neither requires a token."""
    return template.replace("bind *:", f"bind {HOST}:").replace("bind :", f"bind {HOST}:")


def haproxy_on_front(template: str, host: str) -> str:
    """The template with both doors on an IPv6 address; "": where Serve is told."""
    for name in ("frontend_host", "grpc_frontend_host") if host else ():
        template = template.replace(f"bind {{{{ config.{name} }}}}:", f"bind [{host}]:")
    return template


def haproxy_without_silent(template: str) -> str:
    """The template with a time limit for a client's first request. It needs no token to open a connection, and
    connections are few. One that has made a request is closed after Serve's own keep-alive time, 90 s."""
    return template.replace("\ndefaults\n", f"\ndefaults\n    timeout http-request {limits.SILENT_S}s\n", 1)


def check_ports(server: ServerSettings) -> None:
    """Raises FailedPrecondition when another machine reaches an inner port, unless the network is trusted."""
    exposed = open_ports({server.grpc_port, server.http_port})
    if exposed and not server.trust_network:
        raise FailedPrecondition(
            f"Other machines can reach {len(exposed)} inner ports of this system, which ask for no token: "
            f"{', '.join(map(str, exposed[:5]))}. If nobody but you is on this network, say so with --trust-network.",
            "INNER_PORTS_OPEN",
        )


def open_ports(front: Collection[int]) -> list[OpenPort]:
    """The ports of this process and its descendants that other machines can reach, besides those in `front`."""
    import psutil

    here = psutil.Process()
    processes = [here, *here.children(recursive=True)]
    ports = [port for process in processes for port in _listening(process)]
    return [port for port in ports if port.port not in front and not is_loopback(port.address)]


def is_loopback(address: str) -> bool:
    """Whether only this machine reaches the address; "::ffff:127.0.0.1" is loopback too."""
    parsed = ipaddress.ip_address(address.partition("%")[0])
    mapped = getattr(parsed, "ipv4_mapped", None)
    return (mapped or parsed).is_loopback


def _listening(process: Any) -> Iterable[OpenPort]:
    import psutil

    try:
        name = process.name()
        connections = process.net_connections(kind="inet")
    except (psutil.NoSuchProcess, psutil.AccessDenied):
        return []  # it has ended, or runs as another user and is not ours
    listening = (one for one in connections if one.status == psutil.CONN_LISTEN)
    return [OpenPort(one.laddr.ip, one.laddr.port, name) for one in listening]
