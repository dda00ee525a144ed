"""What ships is trained in one order, and the judge's networks teach nobody."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from tests.tiny import save_generator
from training import starter
from training.evaluation.codec import load_autoencoder
from training.pretraining.decoder_average import average, sharpen_and_average


class Jobs:
    """Notes the jobs that are asked for, and trains nothing."""

    def __init__(self) -> None:
        self.asked: list[tuple[str, dict[str, Any]]] = []

    def __call__(self, kind: str, config: dict[str, Any], folder: Path) -> dict[str, Any]:
        self.asked.append((kind, config))
        return {"steps": 1}


@pytest.fixture
def jobs(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Jobs:
    monkeypatch.setattr(starter, "finish_rater", lambda *_: {})
    monkeypatch.setattr(starter, "finish_judge", lambda *_: {})
    save_generator(tmp_path / "out" / "generator", seed=0)
    return Jobs()


def test_every_part_is_trained_and_the_rater_before_the_generator_that_uses_it(
    jobs: Jobs, tmp_path: Path
) -> None:
    figures = starter.build(tmp_path / "pbc64", tmp_path / "out", tmp_path / "runs", jobs)
    assert list(figures) == ["rater", "generator", "decoder", "judge", "reward"]
    kinds = ["attributes", "pretrain", "decoder", "decoder", "attributes", "reward"]
    assert [kind for kind, _ in jobs.asked] == kinds


def test_nothing_but_the_judge_learns_from_the_judges_half_or_its_network(jobs: Jobs, tmp_path: Path) -> None:
    starter.build(tmp_path / "pbc64", tmp_path / "out", tmp_path / "runs", jobs)
    (rater, generator, decoder, _, judge, reward) = (config for _, config in jobs.asked)
    assert judge["split"] == "judge" and rater["split"] == reward["split"] == "teach"
    assert generator["vae_features"] == str(tmp_path / "out" / "rater")
    assert "features" not in decoder
    judged = (str(tmp_path / "out" / "judge"), str(tmp_path / "runs" / "judge"))
    assert not any(
        str(value).startswith(judged)
        for config in (rater, generator, decoder, reward)
        for value in config.values()
    )


def test_one_part_can_be_trained_alone_with_settings_of_its_own(jobs: Jobs, tmp_path: Path) -> None:
    starter.build(
        tmp_path / "pbc64", tmp_path / "out", tmp_path / "runs", jobs, ["generator"], {"minutes": 5}
    )
    ((kind, config),) = jobs.asked
    assert kind == "pretrain" and config["minutes"] == 5
    assert config["held_out"] == str(tmp_path / "pbc64" / "val.parquet")


def test_the_decoders_mean_is_given_to_the_generator_that_both_began_with(jobs: Jobs, tmp_path: Path) -> None:
    generator = tmp_path / "out" / "generator"
    sharpen_and_average(jobs, {"generator": str(generator)}, (1.0, 2.0), tmp_path / "runs")
    copies = [Path(config["generator"]) for _, config in jobs.asked]
    assert [config["adversarial"] for _, config in jobs.asked] == [1.0, 2.0]
    assert generator not in copies and len(set(copies)) == 2
    other = save_generator(tmp_path / "other", seed=5)
    average([generator, other], tmp_path / "runs" / "1" / "generator")
    weights = [
        load_autoencoder(folder).decoder.conv_out.weight
        for folder in (generator, other, tmp_path / "runs" / "1" / "generator")
    ]
    assert torch.allclose((weights[0] + weights[1]) / 2, weights[2], atol=1e-3)
    assert not torch.allclose(weights[0], weights[1], atol=1e-2)
