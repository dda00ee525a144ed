"""Checkpoints come back as they were, whole or not at all."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import nn

from training import checkpoint
from training.ema import Ema
from training.randomness import numbers, tensors


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
