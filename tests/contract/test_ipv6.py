"""A system on an IPv6 address: what it listens on is what its clients are told."""

from __future__ import annotations

import asyncio
import os
import socket
from pathlib import Path

import grpc
import pytest
import trustme

from services.environment import prepare_environment
from services.tokens import access_of
from services.web.app import add_tls
from vouch.client.endpoint import find
from vouch.errors import InvalidInput
from vouch.settings import ServerSettings, Settings


def free_port() -> int:
    try:
        with socket.create_server(("::1", 0), family=socket.AF_INET6) as probe:
            return int(probe.getsockname()[1])
    except OSError:
        pytest.skip("this machine has no IPv6 loopback address")


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    """Of a system on ::1 with a certificate for it. The authority is in authority.pem beside the state folder."""
    authority = trustme.CA()
    authority.cert_pem.write_to_path(tmp_path / "authority.pem")
    own = authority.issue_cert("::1")
    own.private_key_pem.write_to_path(tmp_path / "key.pem")
    own.cert_chain_pems[0].write_to_path(tmp_path / "cert.pem")
    server = ServerSettings(
        host="::1", grpc_port=free_port(), tls_cert=tmp_path / "cert.pem", tls_key=tmp_path / "key.pem"
    )
    settings = Settings(state=tmp_path / "state", server=server)
    settings.folder.create()
    return settings


def test_clients_find_a_system_with_tls_on_an_ipv6_address(
    settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "environ", os.environ.copy())
    prepare_environment(settings, tmp_path)
    settings.folder.write_access(access_of(settings))

    async def call() -> None:
        server = grpc.aio.server()
        add_tls(None, server)
        await server.start()
        endpoint = find(state=settings.state, ca=tmp_path / "authority.pem")
        assert endpoint.address == f"[::1]:{settings.server.grpc_port}"
        async with endpoint.open(grpc.aio) as channel:
            await asyncio.wait_for(channel.channel_ready(), 30)
        await server.stop(None)

    asyncio.run(call())


@pytest.mark.parametrize("address", ["::1:9000", "grpcs://fe80::1:9000"])
def test_an_ipv6_host_without_brackets_is_refused_with_the_brackets(address: str) -> None:
    with pytest.raises(InvalidInput, match=r"put that in brackets, such as \[::1\]:9000"):
        find(address)
