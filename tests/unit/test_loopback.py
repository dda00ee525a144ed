"""Which addresses other machines reach, and how what listens everywhere is brought onto loopback."""

from __future__ import annotations

import os
import socket
import subprocess
import sys

import pytest

from services import limits, loopback
from services.environment import prepare_environment
from vouch.cli.main import root
from vouch.errors import FailedPrecondition, InvalidInput
from vouch.settings import ServerSettings, Settings, load_settings


@pytest.mark.parametrize("address", ["127.0.0.1", "127.8.8.8", "::1", "::ffff:127.0.0.1"])
def test_loopback_addresses_are_known(address):
    assert loopback.is_loopback(address)


@pytest.mark.parametrize("address", ["0.0.0.0", "::", "10.1.2.3", "fe80::1%eth0", "::ffff:10.1.2.3"])
def test_an_address_that_others_reach_is_no_loopback(address):
    assert not loopback.is_loopback(address)


@pytest.mark.parametrize(
    ("asked", "bound"),
    [
        ("[::]:0", "127.0.0.1:0"),
        ("0.0.0.0:9000", "127.0.0.1:9000"),
        ("10.1.2.3:9000", "10.1.2.3:9000"),
        ("unix:/tmp/socket", "unix:/tmp/socket"),
    ],
)
def test_a_server_that_asks_for_every_interface_gets_loopback(asked, bound):
    assert loopback.on_loopback(asked) == bound


def test_haproxys_statistics_listen_on_loopback_and_its_front_where_it_was_told():
    from ray.serve._private.haproxy_templates import HAPROXY_CONFIG_TEMPLATE

    template = loopback.haproxy_on_loopback(HAPROXY_CONFIG_TEMPLATE)
    lines = [line.strip() for line in template.splitlines()]
    binds = [line.removeprefix("bind ") for line in lines if line.startswith("bind ")]
    assert not [bind for bind in binds if not bind.startswith(("127.0.0.1:", "{{ config."))]
    assert sum(bind.startswith("127.0.0.1:{{ config.") for bind in binds) == 2


def test_haproxys_doors_are_on_an_ipv6_address_where_one_is_asked_for():
    from ray.serve._private.haproxy_templates import HAPROXY_CONFIG_TEMPLATE

    template = loopback.haproxy_on_front(HAPROXY_CONFIG_TEMPLATE, "::1")
    assert "bind [::1]:{{ config.frontend_port }}" in template
    assert "bind [::1]:{{ config.grpc_frontend_port }}" in template
    assert loopback.haproxy_on_front(HAPROXY_CONFIG_TEMPLATE, "") == HAPROXY_CONFIG_TEMPLATE


def test_a_client_that_never_asks_keeps_no_connection_for_long():
    from ray.serve._private.haproxy_templates import HAPROXY_CONFIG_TEMPLATE

    line = f"timeout http-request {limits.SILENT_S}s"
    assert line not in HAPROXY_CONFIG_TEMPLATE
    assert line in loopback.haproxy_without_silent(HAPROXY_CONFIG_TEMPLATE)


def test_a_port_on_every_interface_is_found_and_one_on_loopback_is_not():
    with socket.create_server(("0.0.0.0", 0)) as outer, socket.create_server(("127.0.0.1", 0)) as inner:
        found = {port.port for port in loopback.open_ports(front=())}
        assert outer.getsockname()[1] in found
        assert inner.getsockname()[1] not in found
        assert outer.getsockname()[1] not in {
            port.port for port in loopback.open_ports(front={outer.getsockname()[1]})
        }


def test_a_system_with_an_open_inner_port_is_refused_unless_its_network_is_trusted():
    with socket.create_server(("0.0.0.0", 0)) as outer:
        port = outer.getsockname()[1]
        with pytest.raises(FailedPrecondition, match=f"0.0.0.0 port {port} .*--trust-network"):
            loopback.check_ports(ServerSettings())
        loopback.check_ports(ServerSettings(trust_network=True))
        loopback.check_ports(ServerSettings(grpc_port=port))  # the front may be reached
    loopback.check_ports(ServerSettings())


def test_the_ports_of_child_processes_are_found_too():
    listen = "import socket; s = socket.create_server(('0.0.0.0', 0)); print(s.getsockname()[1], flush=True); input()"
    with subprocess.Popen(
        [sys.executable, "-c", listen], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as child:
        assert child.stdout is not None
        port = int(child.stdout.readline())
        assert port in {one.port for one in loopback.open_ports(front=())}
        child.communicate("")


def test_every_process_of_a_system_is_told_that_its_node_is_loopback(tmp_path, monkeypatch):
    for name in list(os.environ):
        if name.startswith(("RAY_", "SERVICES_")):
            monkeypatch.delenv(name)
    monkeypatch.setattr(os, "environ", dict(os.environ))
    settings = Settings(state=tmp_path / "state")
    settings.folder.create()
    prepare_environment(settings, tmp_path)
    assert {name: os.environ[name] for name in loopback.ENVIRONMENT} == loopback.ENVIRONMENT


def test_no_authentication_is_for_loopback_alone(tmp_path):
    files = {"tls_cert": str(tmp_path / "c"), "tls_key": str(tmp_path / "k")}
    assert ServerSettings(auth=False).auth is False
    with pytest.raises(InvalidInput, match="would make everybody an operator"):
        load_settings(server={"host": "10.0.0.1", "auth": False, **files})


def test_up_has_a_flag_for_a_trusted_network():
    from typer.testing import CliRunner

    assert "--trust-network" in CliRunner().invoke(root, ["up", "--help"], terminal_width=200).output
