"""Dropout in an adaptation acts on what learns, and on nothing that measures or draws."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from diffusers import UNet2DConditionModel
from safetensors.torch import load_file

from tests.foundations import save_chests, save_foundation
from training.adaptation.config import AdaptConfig
from training.adaptation.dropout import dropping
from training.adaptation.fit import fit
from training.adaptation.forecast import forecast
from training.adaptation.foundation import Foundation
from training.adaptation.unet import UNetTuning
from training.loop.session import TrainingSession
from vouch.domains.criteria import load_domain
from vouch.models.pipelines import LORA_FILE


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("dropout")
    save_foundation(root / "base")
    save_chests(root / "chests")
    return root


def settings_of(world: Path, out: Path, **settings: object) -> AdaptConfig:
    values: dict[str, object] = {
        "data": world / "chests", "steps": 4, "batch": 4, "threads": 1, "rank": 2, "lr": 1e-2, "warmup": 1,
        "validate_every": 4, "precision": "float32", "domain": load_domain("chest_xray"), "cooldown": 0.0,
        "keep_vae": True, "checkpoint_every": 2,
    }  # fmt: skip
    return AdaptConfig(**{**values, "base": world / "base", "out": out, **settings})  # type: ignore[arg-type]


def test_the_layers_are_those_that_diffusers_gives_a_unet_with_dropout(world: Path) -> None:
    folder = world / "base" / "unet"
    plain, with_dropout = (UNet2DConditionModel.from_pretrained(folder, dropout=p) for p in (0.0, 0.25))
    inputs = torch.randn(2, 4, 8, 8), torch.tensor([1, 500]), torch.randn(2, 16, 16)
    torch.manual_seed(7)
    expected = with_dropout.train()(*inputs).sample
    torch.manual_seed(7)
    with dropping(plain.eval(), 0.25):
        assert torch.equal(plain(*inputs).sample, expected)
    assert torch.equal(plain(*inputs).sample, with_dropout.eval()(*inputs).sample)


def test_nothing_is_dropped_where_the_base_is_measured(world: Path, tmp_path: Path) -> None:
    figures = [
        fit(
            settings_of(world, tmp_path / str(share), dropout=share),
            TrainingSession(tmp_path / f"run-{share}"),
        )
        for share in (0.0, 0.5)
    ]
    assert figures[0]["validation_loss_before"] == figures[1]["validation_loss_before"]
    assert figures[0]["loss"] != figures[1]["loss"]


@pytest.mark.parametrize("other", [{"checkpointing": True}, {"steps": 2}])
def test_activations_that_are_computed_again_and_resumed_runs_drop_the_same(
    world: Path, tmp_path: Path, other: dict[str, object]
) -> None:
    """A run that was cut after two steps goes on; a checkpointed one recomputes in the backward pass."""
    fit(settings_of(world, tmp_path / "whole", dropout=0.5), TrainingSession(tmp_path / "whole"))
    first = settings_of(world, tmp_path / "cut", dropout=0.5, **other)
    fit(first, TrainingSession(tmp_path / "cut"))
    fit(first.model_copy(update={"steps": 4}), TrainingSession(tmp_path / "cut"))
    whole, cut = (load_file(tmp_path / name / LORA_FILE) for name in ("whole", "cut"))
    assert all(torch.allclose(whole[name], cut[name], atol=2e-3) for name in whole)


def test_the_forecast_counts_the_masks(world: Path, tmp_path: Path) -> None:
    base, configs = Foundation(world / "base"), [settings_of(world, tmp_path, dropout=p) for p in (0.0, 0.5)]
    weights = sum(weight.numel() for weight in UNetTuning(base, configs[0]).weights)
    plain, dropped = (forecast(base, weights, config).kept for config in configs)
    assert plain < dropped < 1.5 * plain
