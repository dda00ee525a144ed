"""The whole system as a user starts it: `vouch up` in one process, every other command in another."""

from __future__ import annotations

import io
import json
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
from PIL import Image

from tests.e2e.conftest import free_port

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(900)]

QUESTIONS = 7  # of the blood-cell checklist; one more key is the verdict


@dataclass(frozen=True)
class Told:
    """How a command ended."""

    code: int
    stdout: str
    stderr: str

    @property
    def json(self) -> Any:
        return json.loads(self.stdout)


@dataclass(frozen=True)
class Shell:
    """Runs `vouch` commands against one running system."""

    state: Path

    def __call__(self, *arguments: object, keys: str | None = None, code: int = 0) -> Told:
        command = [sys.executable, "-m", "vouch", *map(str, arguments), "--state", str(self.state)]
        done = subprocess.run(command, input=keys, capture_output=True, text=True, timeout=300)
        assert done.returncode == code, done.stderr + done.stdout
        assert "Traceback" not in done.stdout + done.stderr
        return Told(done.returncode, done.stdout, done.stderr)


@pytest.fixture(scope="session")
def vouch(desk: Path) -> Shell:
    return Shell(desk / "state")


def test_an_image_is_drawn_scored_rated_exported_and_filtered(vouch: Shell, tmp_path: Path) -> None:
    cells = tmp_path / "cells"
    drawn = vouch("generate", "neutrophil", "--count", 6, "--seed", 1, "--out", cells, "--json").json
    images = drawn["images"]
    assert len({image["digest"] for image in images}) == 6
    assert all(Path(image["file"]).is_file() and 0 <= image["score"] <= 1 for image in images)

    scored = vouch("score", images[0]["digest"], "--json").json["scores"][0]
    assert scored["score"] == pytest.approx(images[0]["score"], abs=1e-3)

    rated = vouch(
        "rate", "--rater", "eve", "--limit", 2, "--json", keys="y" * (QUESTIONS + 1) + "n" * (QUESTIONS + 1)
    )
    assert rated.json["rated"] == 2
    for name in ("ratings.csv", "ratings.parquet"):
        assert vouch("ratings", "export", tmp_path / name, "--rater", "eve", "--json").json["ratings"] == 2
        assert vouch("ratings", "import", tmp_path / name, "--json").json["already_recorded"] == 2

    threshold = sorted(image["score"] for image in images)[3]
    filtered = ("filter", cells, tmp_path / "kept", "--min-score", threshold, "--json")
    summary = vouch(*filtered).json
    assert (summary["images"], summary["failed"]) == (6, 0)
    ledger = pq.read_table(tmp_path / "kept" / "ledger.parquet").to_pylist()
    assert {row["digest"] for row in ledger} == {image["digest"] for image in images}
    assert all((row["status"] == "accepted") == (row["score"] >= threshold) for row in ledger)
    assert vouch(*filtered).json["images_this_run"] == 0


def test_what_serves_and_where_it_comes_from_is_told(vouch: Shell) -> None:
    slots = {slot["slot"]: slot for slot in vouch("status", "--json").json["slots"]}
    assert set(slots) == {"generator", "reward"}
    name = slots["generator"]["champion_name"]
    assert name in vouch("versions").stdout
    assert "vouch up --generator" in " ".join(vouch("lineage", name).stdout.split())


def test_a_damaged_image_is_refused_alone_and_a_bomb_is_not_unpacked(vouch: Shell, tmp_path: Path) -> None:
    source = tmp_path / "in"
    vouch("generate", "monocyte", "--count", 1, "--out", source)
    (source / "text.png").write_text("not an image")
    bomb = io.BytesIO()
    Image.new("1", (10_000, 10_000)).save(bomb, "PNG")
    (source / "bomb.png").write_bytes(bomb.getvalue())
    options = ("--prompt", "monocyte", "--min-score", 0, "--json")
    summary = vouch("filter", source, tmp_path / "out", *options).json
    assert (summary["accepted"], summary["failed"]) == (1, 2)
    errors = {
        row["key"]: row["error"] for row in pq.read_table(tmp_path / "out" / "ledger.parquet").to_pylist()
    }
    assert "not an image" in errors["text.png"]
    assert "pixels" in errors["bomb.png"]


@pytest.mark.parametrize(
    ("arguments", "code", "says"),
    [
        (("generate", "neutrophil, nucleus shape triangular"), 2, "triangular"),
        (("generate", "neutrophil", "--count", 0), 2, "count"),
        (("generate", "neutrophil", "--count", 10_001), 2, "10000"),
        (("generate", "neutrophil", "--steps", -1), 2, "steps"),
        (("generate", "neutrophil", "--guidance", "nan"), 2, "guidance"),
        (("generate", "neutrophil", "--seed", -1), 2, "seed"),
        (("generate", "neutrophil", "--version", "nobody"), 4, "nobody"),
        (("status", "--token", "wrong"), 3, "token"),
        (("lineage", "nobody"), 4, "nobody"),
        (("runs", "show", "align-99"), 4, "align-99"),
        (("train", "reward", "--surprise", 1), 2, "surprise"),
    ],
)
def test_wrong_requests_end_with_their_code_and_a_sentence(
    vouch: Shell, arguments: tuple[object, ...], code: int, says: str
) -> None:
    assert says in " ".join(vouch(*arguments, code=code).stderr.split())


def test_a_second_system_on_the_same_folder_is_refused(vouch: Shell) -> None:
    refused = vouch("up", "--grpc-port", free_port(), "--http-port", free_port(), code=5)
    assert "already in use by pid" in refused.stderr
