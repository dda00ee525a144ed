"""`vouch demo`."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.command_line import run


def test_it_becomes_the_demo_with_what_was_typed(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    words: list[str] = []

    def become(program: str, arguments: list[str]) -> None:
        del program
        words.extend(arguments[2:])
        raise SystemExit(0)

    monkeypatch.setattr("vouch.cli.demo.os.execv", become)
    run("demo", "--domain", "chest_xray", "--models", tmp_path, "--once", "--state", tmp_path / "state")
    assert words == [
        "benchmarks.demo", "--domain", "chest_xray", "--models", str(tmp_path), "--state", str(tmp_path / "state"),
        "--once",
    ]  # fmt: skip


def test_an_installed_package_runs_the_same_loop_without_a_checkout(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    programs: list[str] = []

    def become(program: str, arguments: list[str]) -> None:
        del program
        programs.append(arguments[2])
        raise SystemExit(0)

    monkeypatch.setattr("vouch.cli.demo.os.execv", become)
    monkeypatch.setattr("vouch.cli.demo.find_spec", lambda name: None)
    run("demo", "--once")
    assert programs == ["training.demo"]
