"""Each kind of refusal has its exit code and a sentence."""

from __future__ import annotations

import signal
import subprocess
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner

from tests.command_line import run
from tests.edged_server import EdgedServer
from vouch.cli.main import root
from vouch.testing import TOKENS


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["generate", "unicorn"], "Unknown word"),
        (["generate", "neutrophil", "--count", "0"], "1 to 10000"),
        (["generate", "neutrophil", "--count", "10001"], "1 to 10000"),
        (["generate", "neutrophil", "--count", "many"], "--count"),
        (["generate"], "prompt"),
        (["frobnicate"], "frobnicate"),
        (["filter", "missing", "out"], "no file or folder"),
        (["filter", ".", "out", "--min-score", "2"], "between 0 and 1"),
        (["score", "missing.png"], "neither an image file"),
        (["train", "reward", "--surprise", "1"], "no setting surprise"),
        (["train", "reward", "surprise"], "is not a setting"),
        (["review", "add-real", "missing"], "no file or folder"),
        (["review", "add-real", ".", "--count", "0"], "--count"),
        (["ratings", "list", "--kind", "alien"], "alien"),
        (["ratings", "export", "ratings.xlsx"], ".csv"),
    ],
)
def test_invalid_input_ends_with_code_2_and_a_sentence(
    system: EdgedServer, arguments: list[str], says: str
) -> None:
    result = run(*arguments, code=2)
    assert says in result.stderr.replace("\n", " ")
    assert result.stdout == ""


def test_wrong_tokens_and_missing_roles_end_with_code_3(system: EdgedServer) -> None:
    assert "token" in run("status", "--token", "wrong", code=3).stderr
    refused = run("rollout", "start", "generator-2", "--token", TOKENS["client"], code=3)
    assert "role operator" in refused.stderr


def test_unknown_things_end_with_code_4(system: EdgedServer) -> None:
    for arguments in (
        ["lineage", "nobody"],
        ["runs", "show", "run-9"],
        ["rollout", "promote"],
        ["score", "0" * 64],
    ):
        run(*arguments, code=4)


def test_a_refusal_in_this_state_ends_with_code_5(system: EdgedServer) -> None:
    run("rollout", "start", "generator-2")
    assert "active" in run("rollout", "start", "generator-2", code=5).stderr


def test_no_system_ends_with_code_6(tmp_path: Path) -> None:
    assert "vouch up" in run("status", "--state", tmp_path / "nothing", code=6).stderr
    assert "vouch up" in run("status", "--state", tmp_path, "--address", "127.0.0.1:9", code=6).stderr


def test_a_defect_is_one_sentence_and_a_traceback_only_on_request(
    system: EdgedServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    (system.state / "access.json").unlink()
    (system.state / "access.json").mkdir()
    result = CliRunner().invoke(root, ["status"])
    assert result.exit_code != 0
    assert "Traceback" not in result.output
    monkeypatch.setenv("VOUCH_DEBUG", "1")
    debugged = CliRunner().invoke(root, ["status"])
    assert "Traceback" in debugged.output
    assert debugged.exit_code == result.exit_code


STUCK = """
import threading
from vouch.cli import session
session.GRACE_S = 0.2
lock = threading.Lock()
with session.reported():
    try:
        print("running", flush=True)
        threading.Event().wait()
    finally:
        lock.acquire()
        lock.acquire()
"""


def test_an_interrupted_command_ends_though_putting_away_waits_for_ever() -> None:
    process = subprocess.Popen(
        [sys.executable, "-c", STUCK], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    assert process.stdout is not None and process.stdout.readline() == "running\n"
    process.send_signal(signal.SIGINT)
    _, message = process.communicate(timeout=60)
    assert (process.returncode, message) == (130, "error: Interrupted.\n")
