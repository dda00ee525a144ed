"""A foundation model learns from captioned images: steps, options, validation, resume, and what is written."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from tests.foundations import SIZE, save_chests, save_foundation
from training.adaptation.config import AdaptConfig
from training.adaptation.fit import fit
from training.loop.session import TrainingSession
from vouch.domains.criteria import load_domain
from vouch.models.pipelines import load_generator


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Foundation models of two forms, and images."""
    root = tmp_path_factory.mktemp("adaptation")
    save_foundation(root / "1.x")
    save_foundation(root / "2.x", "2.x")
    save_foundation(root / "half", variant="fp16")
    save_chests(root / "chests")
    return root


def ask(world: Path, folder: Path, base: str = "1.x", **settings: object) -> AdaptConfig:
    values: dict[str, object] = {
        "data": world / "chests", "steps": 4, "batch": 4, "threads": 1, "rank": 2, "lr": 1e-2, "warmup": 1,
        "validate_every": 2, "precision": "float32", "domain": load_domain("chest_xray"), "cooldown": 0.0,
    }  # fmt: skip
    return AdaptConfig(**{**values, "base": world / base, "out": folder / "version", **settings})  # type: ignore[arg-type]


def drawn(folder: Path, base: Path | None = None) -> np.ndarray:
    return load_generator(folder, base).generate(["a bright chest, and any words"], [0], 2, 2.0)


@pytest.mark.parametrize("base", ["1.x", "2.x", "half"])
@pytest.mark.parametrize("rank", [0, 2])
def test_an_adapted_model_draws_another_image_of_any_words(
    world: Path, tmp_path: Path, base: str, rank: int
) -> None:
    figures = fit(ask(world, tmp_path, base, rank=rank), TrainingSession(tmp_path / "run"))
    before, after = drawn(world / base), drawn(tmp_path / "version", world / base if rank else None)
    assert after.shape == (1, SIZE, SIZE, 3)
    assert not np.array_equal(before, after)
    assert (tmp_path / "version" / "pytorch_lora_weights.safetensors").is_file() == bool(rank)
    assert figures["validation_loss"] <= figures["validation_loss_before"]


def test_a_run_that_is_cut_resumes_to_the_same_weights(world: Path, tmp_path: Path) -> None:
    whole = ask(world, tmp_path / "whole", steps=4, checkpoint_every=2)
    fit(whole, TrainingSession(tmp_path / "whole"))
    for steps in (2, 4):
        cut = ask(world, tmp_path / "cut", steps=steps, checkpoint_every=2)
        fit(cut, TrainingSession(tmp_path / "cut"))
    from safetensors.torch import load_file

    files = [load_file(config.out / "pytorch_lora_weights.safetensors") for config in (whole, cut)]
    assert files[0].keys() == files[1].keys()
    assert all(torch.equal(files[0][name], files[1][name]) for name in files[0])
