"""Checkpoints come back as they were, whole or not at all."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
import torch
from torch import nn

from training.loop import checkpoint
from training.loop.ema import Ema
from training.randomness import numbers, tensors
from vouch.errors import DataLoss


def trained(steps: int, folder: Path | None = None, start: Path | None = None) -> nn.Linear:
    """A tiny training of `steps` steps in all, resumed from `start` where given."""
    torch.manual_seed(0)
    net = nn.Linear(3, 1)
    optimizer = torch.optim.AdamW(net.parameters(), lr=0.1)
    ema, first = Ema([net], 0.9), 0
    if start and (found := checkpoint.load_latest(start)):
        first, state = found
        net.load_state_dict(state["net"])
        optimizer.load_state_dict(state["optimizer"])
        ema.load_state_dict(state["ema"])
    for step in range(first + 1, steps + 1):
        loss = net(torch.randn(4, 3, generator=tensors("test", step))).pow(2).mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        ema.update()
    if folder:
        state = {"net": net.state_dict(), "optimizer": optimizer.state_dict(), "ema": ema.state_dict()}
        checkpoint.save(folder, steps, state)
    ema.swap()
    return net


def test_a_resumed_training_ends_where_an_unbroken_one_does(tmp_path: Path) -> None:
    trained(4, folder=tmp_path)
    assert torch.equal(trained(9, start=tmp_path).weight, trained(9).weight)


def test_only_the_newest_checkpoints_stay(tmp_path: Path) -> None:
    for step in (1, 2, 3):
        checkpoint.save(tmp_path, step, {"value": torch.tensor(step)})
    found = checkpoint.load_latest(tmp_path)
    assert found is not None and found[0] == 3 and int(found[1]["value"]) == 3
    assert len(list(tmp_path.iterdir())) == checkpoint.KEPT


def test_a_half_written_checkpoint_is_not_seen(tmp_path: Path) -> None:
    checkpoint.save(tmp_path, 1, {"value": 7})
    (tmp_path / ".writing-2").mkdir()
    found = checkpoint.load_latest(tmp_path)
    assert found == (1, {"value": 7})


@pytest.mark.parametrize("name", ["tensors.safetensors", "state.json"])
@pytest.mark.parametrize("damage", ["empty", "cut", "a bit", "gone"])
def test_where_the_newest_is_damaged_the_one_before_is_taken_and_said(
    tmp_path: Path, name: str, damage: str, caplog: pytest.LogCaptureFixture
) -> None:
    for step in (1, 2):
        checkpoint.save(tmp_path, step, {"value": torch.full((100,), float(step))})
    file = tmp_path / "step-00000002" / name
    data = bytearray(file.read_bytes())
    data[-10] ^= 1
    damaged = {"empty": b"", "cut": bytes(data[:-3]), "a bit": bytes(data)}
    file.unlink()
    if damage != "gone":
        file.write_bytes(damaged[damage])
    found = checkpoint.load_latest(tmp_path)
    assert found is not None and found[0] == 1 and float(found[1]["value"][0]) == 1.0
    assert "step-00000002 is damaged" in caplog.text
    assert "goes on from" in caplog.text


def test_where_all_are_damaged_nothing_begins_again_by_itself(tmp_path: Path) -> None:
    checkpoint.save(tmp_path, 1, {"value": 1})
    (tmp_path / "step-00000001" / "state.json").write_text("{")
    with pytest.raises(DataLoss, match=r"step-00000001.*remove the folder"):
        checkpoint.load_latest(tmp_path)


def test_a_checkpoint_of_an_older_version_has_no_digest_and_is_read(tmp_path: Path) -> None:
    (checkpoint.save(tmp_path, 1, {"value": 7}) / "sha256").unlink()
    assert checkpoint.load_latest(tmp_path) == (1, {"value": 7})


def test_everything_is_on_the_disk_before_the_checkpoint_has_its_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    happened: list[str] = []
    fsync, replace = os.fsync, os.replace

    def noted_fsync(handle: int) -> None:
        happened.append(Path(f"/proc/self/fd/{handle}").readlink().name)
        fsync(handle)

    def noted_replace(source: Path, target: Path) -> None:
        happened.append(f"rename to {target.name}")
        replace(source, target)

    monkeypatch.setattr(os, "fsync", noted_fsync)
    monkeypatch.setattr(os, "replace", noted_replace)
    checkpoint.save(tmp_path, 1, {"value": torch.zeros(1)})
    renamed = happened.index("rename to step-00000001")
    assert set(happened[:renamed]) >= {"tensors.safetensors", "state.json", "sha256"}
    assert any(name.startswith(".writing-") for name in happened[:renamed])
    assert happened[renamed + 1 :] == [tmp_path.name]


def test_what_a_killed_process_was_writing_is_removed_by_the_next(tmp_path: Path) -> None:
    (tmp_path / ".writing-abc").mkdir()
    checkpoint.save(tmp_path, 1, {"value": 7})
    assert [path.name for path in tmp_path.iterdir()] == ["step-00000001"]


def test_no_checkpoint_is_none(tmp_path: Path) -> None:
    assert checkpoint.load_latest(tmp_path / "nowhere") is None


def test_tied_tensors_and_number_keys_survive(tmp_path: Path) -> None:
    tensor = torch.arange(4.0)
    checkpoint.save(
        tmp_path, 1, {"a": tensor, "b": tensor, "state": {0: {"step": tensor[0]}}, "list": [1, "x", None]}
    )
    found = checkpoint.load_latest(tmp_path)
    assert found is not None
    assert torch.equal(found[1]["a"], found[1]["b"])
    assert float(found[1]["state"][0]["step"]) == 0.0 and found[1]["list"] == [1, "x", None]


def test_the_average_follows_the_weights_and_changes_places_with_them() -> None:
    net = nn.Linear(1, 1, bias=False)
    ema = Ema([net], 0.5)
    with torch.no_grad():
        before = float(net.weight)
        net.weight.add_(1.0)
    ema.update()
    ema.swap()
    # The first decay is (1+1)/(10+1) = 2/11, so 9/11 of the way is made.
    assert abs(float(net.weight) - (before + 9 / 11)) < 1e-6
    ema.swap()
    assert abs(float(net.weight) - (before + 1.0)) < 1e-6


def test_randomness_goes_by_name() -> None:
    assert numbers("a", 1).random() == numbers("a", 1).random() != numbers("a", 2).random()
    assert torch.equal(torch.rand(3, generator=tensors("a")), torch.rand(3, generator=tensors("a")))
