"""What a person reads at the end of a training: a few figures in words, and where the images are."""

from __future__ import annotations

from pathlib import Path

import pytest

from vouch.cli import render
from vouch.cli.figures import FIGURES, MOST, figures_table, image_sheet


def text_of(table: object) -> str:
    console = render.stdout()
    with console.capture() as captured:
        console.print(table)
    return " ".join(captured.get().split())


def test_figures_are_told_in_words_with_their_units() -> None:
    shown = text_of(
        figures_table("align", {"steps": 40.0, "validation_reward": 0.5, "train_seconds": 90.0, "odd": 1})
    )
    assert "steps 40 " in shown
    assert "validation reward of the kept weights 50.0 %" in shown
    assert "training time 1.5 min" in shown
    assert "odd" not in shown


@pytest.mark.parametrize("kind", FIGURES)
def test_a_table_has_ten_rows_at_the_most(kind: str) -> None:
    table = figures_table(kind, dict.fromkeys(FIGURES[kind], 1.0))
    assert table is not None and len(FIGURES[kind]) == table.row_count <= MOST


def test_without_figures_there_is_no_table() -> None:
    assert figures_table("align", {}) is None


def test_figures_without_words_are_shown_by_name_and_no_more_than_ten() -> None:
    assert "loss 0.2500" in text_of(figures_table("dance", {"loss": 0.25}))
    table = figures_table("dance", {f"figure_{number}": 1.0 for number in range(30)})
    assert table is not None and table.row_count == MOST


def test_the_newest_sheet_of_images_is_named(tmp_path: Path) -> None:
    assert image_sheet(tmp_path) is None
    for name in ("grid-000500.png", "grid-001000.png"):
        (tmp_path / name).touch()
    assert image_sheet(tmp_path) == tmp_path / "grid-001000.png"
    (tmp_path / "images.png").touch()
    assert image_sheet(tmp_path) == tmp_path / "images.png"
