"""The rate of training is a ratio within a turn, beside a peer that learns the same."""

from __future__ import annotations

import argparse
from itertools import count
from pathlib import Path

import pytest
import torch

from benchmarks.adaptation import rates
from benchmarks.adaptation.rates import TimedLoop, measured, take_turns, told
from tests.foundations import SIZE, save_chests, save_foundation
from training.adaptation.data import CaptionedSet, load_set
from training.adaptation.images import ReadOptions
from vouch.domains.criteria import load_domain


def test_every_loop_takes_its_turn_and_who_begins_moves_on() -> None:
    order: list[str] = []
    sides = {name: TimedLoop(lambda name=name: order.append(name)) for name in "abc"}  # type: ignore[misc]
    ticks = count()
    take_turns(sides, turns=2, steps=1, batch=4, clock=lambda: float(next(ticks)))
    assert order == list("abcbcacab")
    assert [side.rates for side in sides.values()] == [[4.0, 4.0]] * 3  # the first turn is not counted


def test_a_figure_is_the_median_of_ratios_within_turns() -> None:
    sides = {
        "diffusers": TimedLoop(print, rates=[10, 1, 10]),
        "unet_alone": TimedLoop(print, rates=[30, 3, 30]),
    }
    sides |= {
        "uncached": TimedLoop(print, rates=[12, 1.3, 11]),
        "cached": TimedLoop(print, rates=[20, 9, 20], prepared_s=3),
    }
    losses = {"diffusers": 0.5, "uncached": 0.505, "cached": 0.5}
    figures = told(sides, losses, 0.6).figures
    assert figures["train_rate_uncached"].value == pytest.approx(1.2)
    assert figures["train_rate_cached"].value == 2 and figures["train_rate_cached_bound"].value == 3
    assert figures["validation_loss_uncached_beside"].value == pytest.approx(0.01)
    assert figures["encoding_s"].value == 3


@pytest.fixture
def world(tmp_path: Path) -> tuple[argparse.Namespace, CaptionedSet]:
    save_chests(tmp_path / "chests")
    asked = argparse.Namespace(
        base=save_foundation(tmp_path / "base", "2.x"), data=tmp_path / "chests", lr=1e-2, batch=4, turns=2, steps=3,
        clock="wall",
    )  # fmt: skip
    return asked, load_set(tmp_path / "chests", SIZE, ReadOptions(load_domain("chest_xray"), share=0.3))


def test_the_peer_learns_as_well_from_as_many_images(world: tuple, tmp_path: Path) -> None:
    torch.manual_seed(0)
    figures = measured(*world, tmp_path / "run").figures
    before, peer = (figures[f"validation_loss_{name}"].value for name in ("before", rates.PEER))
    assert peer < before
    for name in ("uncached", "cached"):
        assert figures[f"train_rate_{name}"].value > 0
        assert figures[f"validation_loss_{name}"].value == pytest.approx(peer, rel=0.1)
