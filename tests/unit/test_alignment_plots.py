"""A report of the alignment's benchmark as pictures."""

from __future__ import annotations

import json
from pathlib import Path

from benchmarks.alignment.plots import plot


def figure(value: float, must: str | None = None) -> dict[str, object]:
    return {
        "value": value,
        "low": value - 0.05,
        "high": value + 0.05,
        "unit": "share",
        "must": must,
        "aim": None,
    }


def written(folder: Path, figures: dict[str, dict[str, object]]) -> dict[str, str]:
    report = folder / "alignment.json"
    report.write_text(json.dumps({"figures": figures}))
    return {path.name: path.read_text() for path in plot(report)}


def test_every_method_has_a_row_with_a_dot_for_each_seed(tmp_path: Path) -> None:
    figures = {
        "starter_plausible": figure(0.6),
        "real_plausible": figure(0.9),
        "nft_0_plausible": figure(0.7),
        "nft_1_plausible": figure(0.75),
        "nft_0_plausible_by_rater": figure(0.7),
        "nft_gain_points": figure(12.0),
    }
    found = written(tmp_path, figures)
    assert list(found) == ["alignment-methods.svg"]
    for row in ("starter", "nft", "real, unseen cells"):
        assert f"<!-- {row} -->" in found["alignment-methods.svg"]


def test_the_queue_is_drawn_beside_random_choice(tmp_path: Path) -> None:
    figures = {
        f"{who}_auroc_noisy_at_{ratings}": figure(0.8 + ratings / 1e4)
        for who in ("random", "queue")
        for ratings in (64, 256)
    }
    assert list(written(tmp_path, figures)) == ["alignment-queue.svg"]


def test_what_a_report_does_not_hold_is_not_drawn(tmp_path: Path) -> None:
    assert written(tmp_path, {"reward_auroc": figure(0.9, ">= 0.9")}) == {}


def test_the_same_report_gives_the_same_picture(tmp_path: Path) -> None:
    figures = {"queue_auroc_noisy_at_64": figure(0.8), "random_auroc_noisy_at_64": figure(0.8)}
    assert written(tmp_path, figures) == written(tmp_path, figures)
