"""`vouch token`, on a state folder of its own."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner, Result

from services.tokens import default_tokens
from vouch.cli.main import root
from vouch.settings import Access, Settings
from vouch.storage.catalog import Catalog
from vouch.storage.catalog.tokens import digest_of


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    """A system that was started once."""
    settings = Settings(state=tmp_path / "state")
    settings.folder.create()
    tokens = default_tokens(settings)
    settings.folder.write_access(Access(address="127.0.0.1:1", http="http://127.0.0.1:2", tokens=tokens))
    return settings


def run(settings: Settings, *arguments: str, code: int = 0) -> Result:
    result = CliRunner().invoke(root, ["token", *arguments, "--state", str(settings.state)])
    assert result.exit_code == code, result.output
    return result


def opens(settings: Settings, secret: str) -> str:
    """The name of the token that this secret opens the door for; "" for none."""
    with Catalog(settings.resolved_catalog_url) as catalog:
        token = catalog.tokens.valid().get(digest_of(secret))
    return token.name if token else ""


def listed(settings: Settings) -> dict[str, Any]:
    return {one["name"]: one for one in json.loads(run(settings, "list", "--json").stdout)["tokens"]}


def test_a_raters_token_is_printed_alone_and_gives_human_ratings_under_its_name(settings: Settings) -> None:
    secret = run(settings, "create", "--role", "rater", "--name", "alice").stdout.strip()
    assert opens(settings, secret) == "alice"
    assert listed(settings)["alice"]["scopes"] == ["human"]
    assert secret not in run(settings, "list").output + run(settings, "list", "--json").output


def test_scopes_are_chosen_one_by_one(settings: Settings) -> None:
    run(settings, "create", "--role", "rater", "--name", "sim-1", "--scope", "simulated")
    run(settings, "create", "--role", "client", "--name", "pipeline")
    assert listed(settings)["sim-1"]["scopes"] == ["simulated"]
    assert listed(settings)["pipeline"]["scopes"] == []


@pytest.mark.parametrize(
    ("arguments", "code", "sentence"),
    [
        (("create", "--role", "rater", "--name", "rater"), 5, "already a token rater"),
        (("create", "--role", "king", "--name", "alice"), 2, "no role 'king'"),
        (("create", "--role", "rater", "--name", "../alice"), 2, "cannot name a token"),
        (("create", "--role", "rater", "--name", "al", "--scope", "robot"), 2, "no scope 'robot'"),
        (("revoke", "nobody"), 4, "no token 'nobody'"),
        (("rotate", "nobody"), 4, "no token 'nobody'"),
    ],
)
def test_what_cannot_be_done_is_said(
    settings: Settings, arguments: tuple[str, ...], code: int, sentence: str
) -> None:
    assert sentence in " ".join(run(settings, *arguments, code=code).output.split())


def test_a_revoked_token_opens_nothing_and_a_rotated_one_opens_again_with_another_secret(
    settings: Settings,
) -> None:
    old = run(settings, "create", "--role", "rater", "--name", "alice").stdout.strip()
    run(settings, "revoke", "alice")
    assert opens(settings, old) == ""
    assert listed(settings)["alice"]["revoked_at"]
    new = run(settings, "rotate", "alice").stdout.strip()
    assert (opens(settings, old), opens(settings, new)) == ("", "alice")


def test_a_default_token_changes_in_the_access_file_too(settings: Settings) -> None:
    new = run(settings, "rotate", "operator").stdout.strip()
    assert settings.folder.read_access().tokens["operator"] == new
    assert default_tokens(settings)["operator"] == new
    run(settings, "revoke", "rater")
    assert set(settings.folder.read_access().tokens) == {"client", "operator"}


def test_a_folder_that_is_none_is_named_and_not_made(tmp_path: Path) -> None:
    missing = Settings(state=tmp_path / "typo")
    assert "There is no state folder" in run(missing, "list", code=4).output.replace("\n", " ")
    assert not (tmp_path / "typo").exists()
