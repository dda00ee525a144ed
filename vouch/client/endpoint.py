"""Resolves the endpoint: arguments, then VOUCH_ADDRESS, VOUCH_TOKEN and VOUCH_STATE, then ./state."""

from __future__ import annotations

import os
import uuid
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import grpc

from vouch.client.traced import interceptors, traced
from vouch.errors import InvalidInput, NotFound
from vouch.storage.state import Access, StateFolder

ROLES = ("operator", "rater", "client")  # most rights first
LOOPBACK = ("127.0.0.1", "localhost", "[::1]")
CLIENT_KEY = "x-vouch-client"  # metadata: the fair-scheduling key of the client
LARGEST_MESSAGE = 2**31 - 1  # bytes; gRPC's default of 4 MiB is smaller than one large image


@dataclass(frozen=True)
class Endpoint:
    """Address and credentials of a system."""

    address: str  # host:port
    token: str = field(default="", repr=False)
    secure: bool = False
    roots: bytes | None = field(default=None, repr=False)  # PEM; None: the roots shipped with gRPC
    client: str = field(
        default_factory=lambda: uuid.uuid4().hex, repr=False
    )  # fair-scheduling key, see CLIENT_KEY
    state: Path | None = field(default=None, repr=False)  # state folder of the system at the address

    def is_up(self) -> bool | None:
        """Whether the system's process runs; None if unknown, as for another machine."""
        return None if self.state is None else StateFolder(self.state).is_held()

    @property
    def metadata(self) -> tuple[tuple[str, str], ...]:
        named = ((CLIENT_KEY, self.client),)
        return (("authorization", f"Bearer {self.token}"), *named) if self.token else named

    @property
    def options(self) -> list[tuple[str, Any]]:
        options: list[tuple[str, Any]] = [
            ("grpc.max_receive_message_length", LARGEST_MESSAGE),
            ("grpc.max_send_message_length", LARGEST_MESSAGE),
            ("grpc.enable_retries", 0),  # a stream hangs if its connection is cut; see `retries`
            # gRPC's backoff grows to two minutes, too long after the system is reachable again.
            ("grpc.initial_reconnect_backoff_ms", 200),
            ("grpc.min_reconnect_backoff_ms", 1000),
            ("grpc.max_reconnect_backoff_ms", 1000),
        ]
        # http_proxy in the environment means the world outside, and not the system of a folder that lies here.
        if self.state is not None or _is_loopback(self.address):
            options.append(("grpc.enable_http_proxy", 0))
        return options

    def open(self, factory: Any) -> Any:
        """A channel made by `grpc` or `grpc.aio`."""
        more: dict[str, Any] = {} if factory is grpc else {"interceptors": interceptors()}
        if self.secure:
            credentials = grpc.ssl_channel_credentials(self.roots)
            channel = factory.secure_channel(self.address, credentials, options=self.options, **more)
        else:
            channel = factory.insecure_channel(self.address, options=self.options, **more)
        return traced(channel) if factory is grpc else channel


def find(
    address: str | None = None,
    token: str | None = None,
    state: str | os.PathLike[str] | None = None,
    role: str | None = None,
    ca: str | os.PathLike[str] | None = None,
) -> Endpoint:
    """The endpoint that the arguments, the environment and the state folder name, in this order.

    Raises:
        NotFound: no address was given and no system was started on the state folder, or it has no token for `role`.
        InvalidInput: the address is not HOST:PORT, an unknown role, or a certificate that cannot be read.
    """
    if role is not None and role not in ROLES:
        raise InvalidInput(f"There is no role {role!r}; the roles are {', '.join(reversed(ROLES))}.")
    address = address or os.environ.get("VOUCH_ADDRESS") or None
    token = token or os.environ.get("VOUCH_TOKEN") or None
    named = state or os.environ.get("VOUCH_STATE") or None
    access = _access(Path(named or "state"), needed=address is None)
    if access is None:
        host, secure = _parsed(address or "")
        return Endpoint(host, token or "", secure or ca is not None, _roots(ca))
    host, secure = _parsed(address or access.address)
    # A token is sent only to the system that wrote it, or to the address that the user gives with it.
    if token is None and (named is not None or _same(host, _parsed(access.address)[0])):
        token = _stored(access, role)
    here = Path(named or "state") if _same(host, _parsed(access.address)[0]) else None
    return Endpoint(host, token or "", secure or ca is not None, _roots(ca), state=here)


def _is_loopback(address: str) -> bool:
    host = address.rpartition(":")[0]
    return host in LOOPBACK or host.startswith("127.")


def _access(folder: Path, needed: bool) -> Access | None:
    try:
        return StateFolder(folder).read_access()
    except NotFound:
        if needed:
            raise
        return None


def _stored(access: Access, role: str | None) -> str | None:
    if not access.tokens:
        return None  # authentication is off
    wanted = ROLES if role is None else (role,)
    token = next((access.tokens[one] for one in wanted if one in access.tokens), None)
    if token is None:
        raise NotFound(
            f"access.json has no token for the role {role}; it has {', '.join(sorted(access.tokens))}."
        )
    return token


def _parsed(address: str) -> tuple[str, bool]:
    scheme, separator, rest = address.rpartition("://")
    host, _, port = rest.rstrip("/").rpartition(":")
    if (separator and scheme not in ("grpc", "grpcs")) or not host or not port.isdigit():
        raise InvalidInput(
            f"The address {address!r} is not HOST:PORT, grpc://HOST:PORT or grpcs://HOST:PORT."
        )
    if ":" in host and not (host.startswith("[") and host.endswith("]")):
        raise InvalidInput(
            f"The address {address!r} has an IPv6 host: put that in brackets, such as [::1]:{port}."
        )
    return f"{host}:{port}", scheme == "grpcs"


def _same(one: str, other: str) -> bool:
    if one == other:
        return True
    (host, _, port), (other_host, _, other_port) = one.rpartition(":"), other.rpartition(":")
    return host in LOOPBACK and other_host in LOOPBACK and port == other_port


def _roots(ca: str | os.PathLike[str] | None) -> bytes | None:
    if ca is None:
        return None
    try:
        return Path(ca).read_bytes()
    except OSError as error:
        raise InvalidInput(f"The certificate {os.fspath(ca)} cannot be read: {error.strerror}.") from None
