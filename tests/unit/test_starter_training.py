"""What ships is trained in one order, and the judge's networks teach nobody."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from training import starter


class Jobs:
    """Notes the jobs that are asked for, and trains nothing."""

    def __init__(self) -> None:
        self.asked: list[tuple[str, dict[str, Any]]] = []

    def __call__(self, kind: str, config: dict[str, Any], folder: Path) -> dict[str, Any]:
        self.asked.append((kind, config))
        return {"steps": 1}


@pytest.fixture
def jobs(monkeypatch: pytest.MonkeyPatch) -> Jobs:
    monkeypatch.setattr(starter, "finish_rater", lambda *_: {})
    monkeypatch.setattr(starter, "finish_judge", lambda *_: {})
    return Jobs()


def test_every_part_is_trained_and_the_rater_before_the_generator_that_uses_it(
    jobs: Jobs, tmp_path: Path
) -> None:
    figures = starter.build(tmp_path / "pbc64", tmp_path / "out", tmp_path / "runs", jobs)
    assert list(figures) == ["rater", "generator", "decoder", "judge", "reward"]
    assert [kind for kind, _ in jobs.asked] == ["attributes", "pretrain", "decoder", "attributes", "reward"]


def test_nothing_but_the_judge_learns_from_the_judges_half_or_its_network(jobs: Jobs, tmp_path: Path) -> None:
    starter.build(tmp_path / "pbc64", tmp_path / "out", tmp_path / "runs", jobs)
    (rater, generator, decoder, judge, reward) = (config for _, config in jobs.asked)
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
