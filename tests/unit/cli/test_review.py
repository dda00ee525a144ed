"""`vouch review add-real`."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from PIL import Image

from tests.command_line import image_folder, run, run_json
from tests.edged_server import EdgedServer
from tests.image_files import encoded, write_files
from vouch.formats import images
from vouch.testing import TOKENS, flat_png


def cells(folder: Path, count: int = 12, **columns: list[str]) -> Path:
    """A labelled image set of larger pictures."""
    file = folder / "cells.parquet"
    pictures = [images.encode_png(np.full((30, 20, 3), 10 * n, dtype=np.uint8)) for n in range(count)]
    table = {"image": pictures, "label": ["neutrophil"] * count, "nucleus_shape": ["round"] * count}
    pq.write_table(pa.table({**table, **columns}), file)
    return file


def test_real_images_are_added_once_as_drawn_ones_look(system: EdgedServer, tmp_path: Path) -> None:
    file = cells(tmp_path, patient=["7"] * 12)
    told = run_json("review", "add-real", file)
    counts = {"stored": 12, "already_stored": 0, "failed": 0, "prompts_filled": 0}
    assert told == {**counts, "failures": [], "warnings": []}
    kept = list(system.images.values())
    assert {(image.width, image.height, image.media_type) for image in kept} == {(16, 16, "image/png")}
    assert {image.prompt for image in kept} == {"neutrophil", "neutrophil, nucleus shape round"}
    assert "0 real images added, 12 already there" in run("review", "add-real", file).stdout


def test_some_real_images_are_drawn_at_random(system: EdgedServer, tmp_path: Path) -> None:
    file = cells(tmp_path)
    assert run_json("review", "add-real", file, "--count", 5)["stored"] == 5
    assert run_json("review", "add-real", file, "--count", 5)["already_stored"] == 5
    assert run_json("review", "add-real", file, "--count", 5, "--seed", 1)["stored"] > 0


def test_real_images_that_cannot_be_hidden_are_named_with_what_to_do(
    system: EdgedServer, tmp_path: Path
) -> None:
    file = cells(tmp_path, label=["neutrophil"] * 10 + ["blast", "neutrophil"])
    result = run("review", "add-real", file, "--json", code=2)
    assert json.loads(result.stdout)["stored"] == 11
    (failure,) = json.loads(result.stdout)["failures"]
    assert (failure["image"], failure["reason"]) == ("row 10", "UNKNOWN_LABEL")
    assert "row 10: " in result.stderr
    assert "lymphocyte, neutrophil, platelet" in result.stderr
    assert "Rename these words" in result.stderr


def test_an_unreadable_file_of_real_images_is_named_and_the_rest_is_kept(
    system: EdgedServer, tmp_path: Path
) -> None:
    folder = image_folder(tmp_path / "in")
    (folder / "empty.png").write_bytes(b"")
    (folder / "scan.dcm").write_bytes(b"")
    (folder / "000.txt").write_bytes("für".encode("latin-1"))
    result = run("review", "add-real", folder, "--prompt", "platelet", "--json", code=2)
    told = json.loads(result.stdout)
    assert (told["stored"], told["failed"], told["prompts_filled"]) == (39, 4, 0)
    assert {one["image"] for one in told["failures"]} == {"000.png", "broken.png", "empty.png", "scan.dcm"}
    assert "empty.png: The image is empty." in result.stderr


def test_real_images_that_are_nearly_black_are_named(system: EdgedServer, tmp_path: Path) -> None:
    grey = Image.fromarray(np.linspace(0, 4095, 32 * 32).reshape(32, 32).astype(np.uint16))
    write_files(tmp_path / "in", {"a.png": encoded(grey), "a.txt": "platelet"})
    (warning,) = run_json("review", "add-real", tmp_path / "in")["warnings"]
    assert warning["image"] == "a.png"
    assert "give --window 0:4095" in warning["message"]
    assert run_json("review", "add-real", tmp_path / "in", "--window", "0:4095")["warnings"] == []


def test_real_images_without_labels_take_the_prompt_that_is_given(
    system: EdgedServer, tmp_path: Path
) -> None:
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "a.png").write_bytes(flat_png(1))
    run("review", "add-real", tmp_path / "in", code=2)
    assert run_json("review", "add-real", tmp_path / "in", "--prompt", "platelet")["stored"] == 1


def test_only_an_operator_adds_real_images(system: EdgedServer, tmp_path: Path) -> None:
    refused = run("review", "add-real", cells(tmp_path), "--token", TOKENS["rater"], code=3)
    assert "role operator" in refused.stderr
