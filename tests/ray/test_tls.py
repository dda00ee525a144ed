"""A system that others reach: TLS at the front, for gRPC and for the page."""

from __future__ import annotations

import ssl
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest
import trustme

import vouch
from services import loopback
from tests.ray.conftest import Running, listening, started
from vouch.errors import Unavailable

pytestmark = [pytest.mark.ray, pytest.mark.timeout(900)]


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the certificate of an authority, and one of 127.0.0.1 that it has signed, with its key."""
    folder = tmp_path_factory.mktemp("certificates")
    authority = trustme.CA()
    authority.cert_pem.write_to_path(folder / "authority.pem")
    own = authority.issue_cert("127.0.0.1")
    own.private_key_pem.write_to_path(folder / "key.pem")
    own.cert_chain_pems[0].write_to_path(folder / "cert.pem")
    return folder


@pytest.fixture(scope="module")
def secured(tmp_path_factory: pytest.TempPathFactory, models: Path, authority: Path) -> Iterator[Running]:
    files = {
        "VOUCH_SERVER__TLS_CERT": str(authority / "cert.pem"),
        "VOUCH_SERVER__TLS_KEY": str(authority / "key.pem"),
    }
    with started(tmp_path_factory.mktemp("secured") / "state", models, **files) as running:
        yield running


def test_whoever_trusts_the_authority_draws_and_streams(secured: Running, authority: Path) -> None:
    with vouch.connect(state=secured.folder.root, ca=authority / "authority.pem", timeout_s=120) as client:
        assert client.generate_images("neutrophil", steps=1).images[0].score is not None
        streamed = list(client.stream_images("neutrophil", count=2, steps=1))
    assert len([event for event in streamed if hasattr(event, "data")]) == 2


def test_a_client_without_tls_gets_no_answer(secured: Running) -> None:
    plain = secured.address.removeprefix("grpcs://")
    with vouch.connect(plain, token="none", timeout_s=10) as client, pytest.raises(Unavailable):
        client.get_serving()


def test_the_page_speaks_tls_too(secured: Running, authority: Path) -> None:
    trusting = ssl.create_default_context(cafile=str(authority / "authority.pem"))
    with urllib.request.urlopen(secured.http + "/healthz", context=trusting, timeout=60) as answer:
        assert answer.read() == b"ok\n"


def test_no_port_behind_the_front_is_open_to_other_machines(secured: Running) -> None:
    ports = listening(secured.process)
    assert [port for port in ports if not loopback.is_loopback(port[1])] == []
