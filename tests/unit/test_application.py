"""The application graph, as a Serve config names it."""

from __future__ import annotations

import inspect
from pathlib import Path

import pytest
from ray.serve import Application

from services.application import build
from vouch.errors import InvalidInput


@pytest.fixture(autouse=True)
def no_settings(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("VOUCH_SETTINGS", raising=False)


def test_a_serve_config_builds_the_application_from_its_arguments(tmp_path: Path) -> None:
    application = build({"state": str(tmp_path), "generation": {"max_batch": 2}})
    assert isinstance(application, Application)
    assert list(inspect.signature(build).parameters) == ["arguments"]  # Serve hands a builder one mapping


def test_there_are_as_many_gateways_as_the_settings_say(tmp_path: Path) -> None:
    for count in (1, 3):
        application = build({"state": str(tmp_path), "server": {"gateways": count}})
        assert application._bound_deployment.num_replicas == count


def test_an_argument_that_is_no_setting_is_refused_by_name() -> None:
    with pytest.raises(InvalidInput, match="generation.max_bach: there is no such setting"):
        build({"generation": {"max_bach": 2}})
