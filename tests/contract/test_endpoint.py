"""How the client finds the system: arguments, environment, state folder, in this order."""

from __future__ import annotations

from pathlib import Path

import pytest

import vouch
from vouch.client.endpoint import find
from vouch.errors import InvalidInput, NotFound
from vouch.storage.state import Access, StateFolder

TOKENS = {"client": "c", "rater": "r", "operator": "o"}


@pytest.fixture(autouse=True)
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No variable is set and the working directory has no state folder."""
    for name in ("VOUCH_ADDRESS", "VOUCH_TOKEN", "VOUCH_STATE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.chdir(tmp_path)


def started(folder: Path, address: str = "127.0.0.1:9000", tokens: dict[str, str] | None = None) -> Path:
    state = StateFolder(folder).create()
    state.write_access(
        Access(address=address, http="http://127.0.0.1:8000", tokens=TOKENS if tokens is None else tokens)
    )
    return folder


def test_the_state_folder_beside_the_caller_is_found(tmp_path: Path) -> None:
    started(tmp_path / "state")
    found = find()
    assert (found.address, found.token, found.secure) == ("127.0.0.1:9000", "o", False)


@pytest.mark.parametrize(("role", "token"), [(None, "o"), ("client", "c"), ("rater", "r"), ("operator", "o")])
def test_the_role_chooses_the_token_and_the_highest_is_the_default(
    tmp_path: Path, role: str | None, token: str
) -> None:
    assert find(state=started(tmp_path / "x"), role=role).token == token


def test_arguments_beat_the_environment_which_beats_the_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    started(tmp_path / "state", "127.0.0.1:1")
    monkeypatch.setenv("VOUCH_STATE", str(started(tmp_path / "other", "127.0.0.1:2")))
    assert find().address == "127.0.0.1:2"
    monkeypatch.setenv("VOUCH_ADDRESS", "127.0.0.1:3")
    monkeypatch.setenv("VOUCH_TOKEN", "from-environment")
    assert (find().address, find().token) == ("127.0.0.1:3", "from-environment")
    assert (find("host:4", "given").address, find("host:4", "given").token) == ("host:4", "given")


def test_a_token_found_by_chance_is_not_sent_to_another_address(tmp_path: Path) -> None:
    started(tmp_path / "state")
    assert find("evil.example:9000").token == ""
    assert find("localhost:9000").token == "o"
    assert find("localhost:9001").token == ""
    assert find("proxy.example:443", state=tmp_path / "state").token == "o"  # sent there by name


def test_the_system_of_a_state_folder_is_called_without_a_proxy(tmp_path: Path) -> None:
    direct = ("grpc.enable_http_proxy", 0)
    started(tmp_path / "state", "192.168.1.5:9000")
    assert direct in find().options
    assert direct in find("192.168.1.5:9000").options
    assert direct not in find("vouch.example:9000").options


def test_no_system_says_how_to_start_one() -> None:
    with pytest.raises(NotFound, match="vouch up"):
        vouch.connect()


def test_an_address_alone_needs_no_folder() -> None:
    assert (find("host:9000").address, find("host:9000").token) == ("host:9000", "")


def test_a_role_without_a_token_is_named(tmp_path: Path) -> None:
    with pytest.raises(NotFound, match="operator"):
        find(state=started(tmp_path / "x", tokens={"client": "c"}), role="operator")


def test_a_system_without_authentication_needs_no_token(tmp_path: Path) -> None:
    assert find(state=started(tmp_path / "x", tokens={}), role="operator").token == ""


@pytest.mark.parametrize("address", ["host", "host:", ":9000", "host:http", "http://host:80", "host:90/path"])
def test_what_is_not_an_address_is_refused(address: str) -> None:
    with pytest.raises(InvalidInput, match="HOST:PORT"):
        find(address)


def test_an_unknown_role_is_refused() -> None:
    with pytest.raises(InvalidInput, match="client, rater, operator"):
        find("host:1", role="king")


def test_tls_is_asked_for_by_the_scheme_or_by_a_certificate(tmp_path: Path) -> None:
    pem = tmp_path / "ca.pem"
    pem.write_bytes(b"PEM")
    assert find("grpcs://host:443").secure
    assert (find("host:443", ca=pem).secure, find("host:443", ca=pem).roots) == (True, b"PEM")
    assert not find("grpc://host:443").secure
    with pytest.raises(InvalidInput, match="missing.pem"):
        find("host:443", ca=tmp_path / "missing.pem")


def test_a_token_does_not_show_when_an_endpoint_is_printed() -> None:
    assert "secret" not in repr(find("host:1", "secret"))
