"""The ablation of the autoencoder: every variant is trained, and measured by the first judge."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

import vouch
from benchmarks.report import Report
from benchmarks.starter import ablation
from training.data.examples import Examples
from training.evaluation.codec import load_autoencoder
from training.evaluation.judge import Judge

JUDGE = Path(vouch.__file__).parent / "starter" / "judge"
SETTINGS = {"vae_steps": 2, "vae_batch": 2, "vae_crop": 16, "threads": 1}


@pytest.fixture(scope="module")
def judge() -> Judge:
    return Judge.load(JUDGE)


@pytest.fixture(scope="module")
def cells(judge: Judge) -> Examples:
    labels = judge.plausibility.vocabulary.labels[:2] * 8
    images = torch.randint(0, 255, (16, 3, 64, 64), generator=torch.Generator().manual_seed(0))
    return Examples(images.byte(), tuple(labels), ({},) * 16, ({},) * 16, "")


@pytest.mark.parametrize("variant", ["12 channels", "32 channels, half the resolution"])
def test_a_variant_can_be_trained(tmp_path: Path, cells: Examples, variant: str) -> None:
    ablation.fit(tmp_path, cells, {**SETTINGS, **ablation.VARIANTS[variant]})
    assert load_autoencoder(tmp_path).config.latent_channels in (12, 32)


def test_a_variant_is_measured_with_its_steps(tmp_path: Path, cells: Examples, judge: Judge) -> None:
    ablation.fit(tmp_path, cells, SETTINGS)
    report = Report("ablation")
    ablation.measure(report, "8 channels", tmp_path, cells, judge)
    assert report.figures["steps: 8 channels"].value == 2
    assert 0 <= report.figures["two-sample AUC: 8 channels"].value <= 1
