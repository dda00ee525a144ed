"""Every command and snippet of the tutorials, on one real system with tiny models, in reading order."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.snippets import ROOT, Snippet, snippets

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(900)]

TUTORIALS = ROOT / "docs" / "tutorials"


def test_first_images(desk: Path) -> None:
    follow("first-images.md", desk)
    assert len(list((desk / "cells").glob("*.png"))) == 6
    assert (desk / "kept" / "ledger.parquet").is_file()
    assert len(list((desk / "stream").iterdir())) == 3


@pytest.mark.slow
def test_rating_retraining_and_rolling_out(desk: Path) -> None:
    follow("rate-and-retrain.md", desk)
    assert (desk / "ratings.csv").read_text("utf-8").count("ada") == 20
    follow("roll-out.md", desk)


def follow(page: str, desk: Path) -> None:
    """Runs what the page tells its reader to run."""
    run = [one for one in snippets(TUTORIALS / page) if one.is_run]
    assert run, f"{page} has nothing to run"
    for snippet in run:
        ended = _run(snippet, desk)
        said = f"{snippet.place}\n{ended.stdout}\n{ended.stderr}"
        assert ended.returncode == snippet.exit_code, said
        assert "Traceback" not in ended.stdout + ended.stderr, said


def _run(snippet: Snippet, desk: Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-c"] if snippet.language == "python" else ["bash", "-euc"]
    binaries = Path(sys.executable).parent
    environment = {
        **os.environ,
        "PATH": f"{binaries}{os.pathsep}{os.environ['PATH']}",
        "PYTHONPATH": os.pathsep.join(filter(None, (str(ROOT), os.environ.get("PYTHONPATH", "")))),
    }
    return subprocess.run(
        [*command, snippet.text],
        cwd=desk,
        env=environment,
        input=snippet.typed,
        capture_output=True,
        text=True,
        timeout=600,
    )
