"""`vouch score`."""

from __future__ import annotations

import json
from pathlib import Path

from tests.command_line import run, run_json
from tests.edged_server import EdgedServer
from vouch.testing import flat_png


def test_files_and_stored_images_are_scored(system: EdgedServer, tmp_path: Path) -> None:
    (tmp_path / "bright.png").write_bytes(flat_png(255))
    stored = run_json("generate", "neutrophil", "--seed", 51)["images"][0]["digest"]
    scores = run_json("score", tmp_path / "bright.png", stored, "--prompt", "neutrophil")["scores"]
    assert [round(one["score"], 2) for one in scores] == [1.0, 0.2]
    assert "cell_type" in run("score", stored).stdout


def test_of_several_images_a_bad_one_is_named_and_the_others_are_scored(
    system: EdgedServer, tmp_path: Path
) -> None:
    for name, data in (("a", flat_png(255)), ("b", b"no image"), ("c", flat_png(51))):
        (tmp_path / f"{name}.png").write_bytes(data)
    files = [tmp_path / f"{name}.png" for name in "abc"]
    result = run("score", *files, "--prompt", "neutrophil", "--json", code=2)
    told = json.loads(result.stdout)
    assert [(one["item_id"], round(one["score"], 2)) for one in told["scores"]] == [
        (str(files[0]), 1.0), (str(files[2]), 0.2),
    ]  # fmt: skip
    assert [one["image"] for one in told["failures"]] == [str(files[1])]
    assert "not an image" in result.stderr


def test_a_file_that_cannot_be_read_keeps_none_of_the_others(system: EdgedServer, tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(flat_png(255))
    (tmp_path / "b.dcm").write_bytes(bytes(128) + b"DICM" + b"damaged")
    arguments = [tmp_path / "b.dcm", tmp_path / "missing.png", tmp_path / "a.png", "--prompt", "neutrophil"]
    told = json.loads(run("score", *arguments, "--json", code=2).stdout)
    assert [one["item_id"] for one in told["scores"]] == [str(tmp_path / "a.png")]
    assert [one["image"] for one in told["failures"]] == [
        str(tmp_path / "b.dcm"),
        str(tmp_path / "missing.png"),
    ]


def test_the_only_file_is_refused_by_its_own_reason(system: EdgedServer, tmp_path: Path) -> None:
    assert "neither an image file" in run("score", tmp_path / "missing.png", code=2).stderr
