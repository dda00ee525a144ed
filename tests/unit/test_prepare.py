"""A cluster's stores are made ready once; doing it again changes nothing."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from services.starter import STARTER
from vouch.storage.catalog import Catalog
from vouch.storage.registry import Registry

pytestmark = pytest.mark.skipif(
    not (STARTER / "generator").is_dir(), reason="the starter models are not part of this checkout"
)


def test_the_first_models_are_published_where_the_settings_say(catalog_url, models_url, tmp_path):
    environment = {
        **{name: value for name, value in os.environ.items() if not name.startswith("VOUCH_")},
        "VOUCH_STATE": str(tmp_path / "here"),
        "VOUCH_CATALOG_URL": catalog_url,
        "VOUCH_MODELS_URL": models_url,
    }
    command = [sys.executable, "-m", "services.prepare"]
    first, again = (
        subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
        for _ in range(2)
    )
    assert first.returncode == 0, first.stderr
    assert first.stdout == again.stdout
    assert "generator serves " in first.stdout and "reward serves " in first.stdout
    folder = tmp_path / ("there" if models_url else "here") / "models"
    with Catalog(catalog_url) as catalog:
        registry = Registry(catalog, folder, models_url)
        assert len(registry.list()) == 2
        for slot in catalog.serving.list():
            assert registry.open(slot.champion).is_dir()


def test_a_model_that_is_not_there_is_named(tmp_path):
    environment = {
        **os.environ,
        "VOUCH_STATE": str(tmp_path),
        "VOUCH_GENERATION__MODEL": str(tmp_path / "nowhere"),
    }
    command = [sys.executable, "-m", "services.prepare"]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode != 0
    assert "nowhere" in done.stderr and "Traceback" not in done.stderr
