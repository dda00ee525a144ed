"""One changed bit, or a file that ends early: the version is refused with the file's name, and the old one serves."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from benchmarks.faults.damage import DamagedModels, accepted, cut_to, flipped
from vouch.storage import registry


@pytest.fixture
def models(tmp_path: Path) -> Iterator[DamagedModels]:
    source = tmp_path / "reward"
    source.mkdir()
    (source / "reward.safetensors").write_bytes(bytes(range(256)) * 40)
    (source / "reward.json").write_text("{}")
    models = DamagedModels(tmp_path, source)
    yield models
    models.catalog.close()


def test_no_flip_and_no_truncation_is_accepted(models: DamagedModels) -> None:
    passed, reasons = accepted(models, 40)
    assert passed == []
    assert reasons.total() == 80
    assert models.refusal() == ""  # whole again, it is rolled out


def test_without_verification_they_would_be(models: DamagedModels, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(registry, "_verify", lambda folder, version: None)
    passed, _ = accepted(models, 5)
    assert len(passed) == 10


def test_damage_ends_with_its_block(models: DamagedModels) -> None:
    path = models.files()[0]
    before = path.read_bytes()
    with flipped(path, 9):
        assert path.read_bytes() != before
    with cut_to(path, 3):
        assert path.read_bytes() == before[:3]
    assert path.read_bytes() == before
