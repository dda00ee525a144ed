"""`vouch generate`."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

from tests.command_line import run, run_json
from tests.edged_server import EdgedServer
from vouch.formats import images
from vouch.testing import GENERATOR, flat_png


def test_generated_images_are_written_with_their_provenance(system: EdgedServer, tmp_path: Path) -> None:
    out = tmp_path / "cells"
    answer = run_json("generate", "neutrophil", "--count", 3, "--seed", 7, "--out", out)
    assert [image["seed"] for image in answer["images"]] == [7, 8, 9]
    first = Path(answer["images"][0]["file"])
    assert first.read_bytes() == flat_png(7)
    note = json.loads(first.with_suffix(".json").read_text())
    assert (note["prompt"], note["generator_version"]) == ("neutrophil", GENERATOR)
    assert "data" not in note


def test_generate_hands_on_how_to_guide(system: EdgedServer) -> None:
    how = {
        "guidance_method": "autoguidance",
        "guidance_start": 0.25,
        "guidance_stop": 0.75,
        "adapter_start": 0.5,
    }
    options = [word for name, value in how.items() for word in (f"--{name.replace('_', '-')}", value)]
    (image,) = run_json("generate", "neutrophil", *options)["images"]
    assert {name: image[name] for name in how} == how


def test_generate_prints_a_table_for_people(system: EdgedServer) -> None:
    shown = run("generate", "platelet", "--seed", 200).stdout
    assert "starter-generator" in shown
    assert "1 images" in shown


def test_generate_lists_the_words_that_a_prompt_may_hold(system: EdgedServer) -> None:
    assert "lymphocyte, neutrophil, platelet" in run("generate", "?").stdout


def test_a_real_process_writes_json_alone_to_stdout(system: EdgedServer) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "vouch", "generate", "neutrophil", "--json", "--state", str(system.state)],
        capture_output=True, text=True, timeout=120,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["images"][0]["digest"] == images.digest(flat_png(0))
