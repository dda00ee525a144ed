"""`vouch filter`, over the wire."""

from __future__ import annotations

import json
import re
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from tests.command_line import image_folder, run, run_json
from tests.edged_server import EdgedServer
from vouch.testing import REWARD, flat_png


def test_filter_keeps_the_bright_images_and_writes_every_score(system: EdgedServer, tmp_path: Path) -> None:
    source, out = image_folder(tmp_path / "in"), tmp_path / "out"
    summary = run_json("filter", source, out, "--min-score", 0.5)
    assert (summary["accepted"], summary["rejected"], summary["failed"]) == (20, 20, 1)
    rows = {row["key"]: row for row in pq.read_table(out / "ledger.parquet").to_pylist()}
    assert rows["200.png"]["status"] == "accepted"
    assert (out / rows["200.png"]["file"]).read_bytes() == flat_png(200)
    assert rows["005.png"]["score"] == pytest.approx(5 / 255)
    assert "not an image" in rows["broken.png"]["error"]


def test_filter_over_the_wire_resumes_after_the_system_went_away(system: EdgedServer, tmp_path: Path) -> None:
    source, out = image_folder(tmp_path / "in"), tmp_path / "out"
    system.break_after = 16
    (system.state / "lock").write_text("4194305\n")  # its process has ended: nobody waits for it
    assert "went away" in run("filter", source, out, "--min-score", 0.5, code=6).stderr
    system.break_after = None
    before = len(system.scored)
    summary = run_json("filter", source, out, "--min-score", 0.5)
    assert summary["images"] == 41
    assert len(system.scored) == 40
    assert before >= 16
    assert system.stream_versions == ["", REWARD]


def test_filter_interrupted_from_the_keyboard_keeps_what_was_scored(
    system: EdgedServer, tmp_path: Path
) -> None:
    source, out = image_folder(tmp_path / "in"), tmp_path / "out"
    system.hold_after = 16
    command = [sys.executable, "-m", "vouch", "filter", str(source), str(out), "--min-score", "0.5"]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert system.held.wait(120)
    process.send_signal(signal.SIGINT)
    _, told = process.communicate(timeout=60)
    assert process.returncode == 130, told
    assert "Interrupted" in told
    system.hold_after = None
    assert run_json("filter", source, out, "--min-score", 0.5)["images"] == 41
    assert len(rows_by_key(out)) == 41


def rows_by_key(out: Path) -> dict[str, Any]:
    return {row["key"]: row for row in pq.read_table(out / "ledger.parquet").to_pylist()}


def test_filter_without_prompts_says_how_to_give_one(system: EdgedServer, tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "a.png").write_bytes(flat_png(1))
    assert "--prompt" in run("filter", tmp_path / "in", tmp_path / "out", code=2).stderr
    run("filter", tmp_path / "in", tmp_path / "out", "--prompt", "neutrophil")


def test_filter_ends_with_2_where_something_like_an_image_was_left_out(
    system: EdgedServer, tmp_path: Path
) -> None:
    source, out = image_folder(tmp_path / "in"), tmp_path / "out"
    (source / "scan.nii").write_bytes(b"x")
    result = run("filter", source, out, "--json", code=2)
    summary = json.loads(result.stdout)
    assert summary["seen"] == 42 == summary["images"] + summary["skipped"]
    assert "skipped 1: Volumes are not read. Export their slices as PNG or TIFF. (scan.nii)" in result.stderr
    assert re.search(r"skipped +1", run("filter", source, out, code=2).stdout)


def test_filter_sends_images_whose_path_is_longer_than_an_id_may_be(
    system: EdgedServer, tmp_path: Path
) -> None:
    deep = tmp_path / "in" / ("a" * 200) / ("b" * 200) / ("c" * 200)
    deep.mkdir(parents=True)
    (deep / "1.png").write_bytes(flat_png(200))
    summary = run_json("filter", tmp_path / "in", tmp_path / "out", "--prompt", "neutrophil")
    assert (summary["images"], summary["failed"], summary["prompts_filled"]) == (1, 0, 1)
