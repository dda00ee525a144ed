"""A system of the contract's fakes that the commands find by the environment."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.edged_server import EdgedServer


@pytest.fixture
def system(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[EdgedServer]:
    with EdgedServer(tmp_path / "state") as running:
        monkeypatch.setenv("VOUCH_STATE", str(running.state))
        monkeypatch.setenv("COLUMNS", "200")
        yield running
