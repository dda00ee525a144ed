"""`vouch demo`."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

import vouch
from tests.command_line import run


@pytest.fixture
def become(monkeypatch: pytest.MonkeyPatch) -> list[list[str]]:
    """What the command became: program and options."""
    programs: list[list[str]] = []

    def become(program: str, arguments: list[str], environment: dict[str, str]) -> None:
        del program, environment
        programs.append(arguments[2:])
        raise SystemExit(0)

    monkeypatch.setattr("vouch.cli.demo.os.execve", become)
    return programs


def test_it_becomes_the_demo_with_what_was_typed(become: list[list[str]], tmp_path: Path) -> None:
    run("demo", "--domain", "chest_xray", "--models", tmp_path, "--once", "--state", tmp_path / "state")
    assert become == [[
        "benchmarks.demo", "--domain", "chest_xray", "--models", str(tmp_path), "--state", str(tmp_path / "state"),
        "--once",
    ]]  # fmt: skip


def test_an_installed_package_runs_the_same_loop_without_a_checkout(
    become: list[list[str]], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(vouch, "__file__", str(tmp_path / "site-packages" / "vouch" / "__init__.py"))
    run("demo", "--once")
    assert become[0][0] == "training.demo"


def test_the_command_of_a_checkout_finds_its_models_from_any_folder(tmp_path: Path) -> None:
    """Chests are in the checkout alone: the demo gets past its models, and stops at a state folder that is none."""
    (tmp_path / "state").mkdir()
    (tmp_path / "state" / "mine.txt").touch()
    vouch_command = [Path(sys.executable).with_name("vouch"), "demo", "--domain", "chest_xray", "--once"]
    done = subprocess.run(
        [*map(str, vouch_command), "--state", str(tmp_path / "state")],
        cwd=tmp_path, env={"PATH": "/usr/bin:/bin"}, capture_output=True, text=True,
    )  # fmt: skip
    assert done.returncode == 5
    assert "is not a demo's state folder" in " ".join(done.stdout.split())
