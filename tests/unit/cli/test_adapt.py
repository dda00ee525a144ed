"""`vouch adapt`."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from tests.command_line import run, run_json
from tests.edged_server import EdgedServer
from tests.foundations import save_chests, save_foundation


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("adapt")
    save_foundation(root / "base")
    save_chests(root / "chests")
    return root


@pytest.fixture
def handed_over(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The words of the training command that takes the place of this process."""
    words: list[str] = []

    def become(program: str, arguments: list[str]) -> None:
        del program
        words.extend(arguments[2:])  # after the interpreter and -m
        raise SystemExit(0)

    monkeypatch.setattr("vouch.cli.adapt.os.execv", become)
    return words


def test_a_system_is_asked_for_a_run_with_every_setting_that_was_typed(
    system: EdgedServer, world: Path
) -> None:
    asked = ("--data", world / "chests", "--base", world / "base", "--recipe", "unet-text", "--rank", 8)
    run_ = run_json(
        "adapt", *asked, "--text-lr=1e-5", "--accept", "no-caption", "--window=0:200", "--prior.weight", 1
    )
    assert (run_["kind"], run_["state"]) == ("adapt", "SUCCEEDED")
    assert run_["config"] == {
        "data": str(world / "chests"), "base": str(world / "base"), "recipe": "unet-text", "rank": 8, "text_lr": 1e-5,
        "accept": ["no-caption"], "window": "0:200", "prior.weight": 1,
    }  # fmt: skip


def test_a_base_that_is_no_folder_is_a_version(system: EdgedServer, world: Path) -> None:
    run_ = run_json("adapt", "--data", world / "chests", "--base", "generator-2", "--detach")
    assert (run_["state"], run_["config"]["parent"]) == ("QUEUED", "generator-2")


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (("--recipe", "text-inversion", "--rank", "4"), "rank has no effect in the recipe text-inversion"),
        (("--text-lr", "1e-4"), "text_lr has no effect in the recipe unet"),
        (("--ranks", "4"), "no setting ranks"),
        (("--base", "someone/a-model"), "vouch downloads no model"),
        (("--size", "64"), "--size has an effect only with --check-only"),
        (("--domain", "chest_xray"), "--domain has an effect only without a system"),
        (("--offline", "--detach"), "--detach has an effect only if a running system trains"),
        (("--check-only", "--rank", "4"), "--rank is a setting of a training"),
        (("--check-only", "--out", "x"), "--out has an effect only without --check-only"),
    ],
)
def test_what_would_change_nothing_is_refused_before_it_is_queued(
    system: EdgedServer, world: Path, arguments: tuple[str, ...], says: str
) -> None:
    assert says in " ".join(run("adapt", "--data", world / "chests", *arguments, code=2).stderr.split())
    assert not system.runs


def test_without_a_system_the_training_command_gets_every_setting(
    world: Path, tmp_path: Path, handed_over: list[str]
) -> None:
    places = ("--data", world / "chests", "--base", world / "base", "--out", tmp_path / "out")
    reading = ("--domain", "chest_xray", "--window=0:200", "--accept", "blank")
    run(
        "adapt",
        *places,
        *reading,
        "--steps",
        3,
        "--run-dir",
        tmp_path / "run",
        "--workers",
        0,
        "--vae.crop=16",
    )
    assert handed_over[:2] == ["training", "adapt"]
    pairs = dict(zip(handed_over[2::2], handed_over[3::2], strict=False))
    assert pairs["--data"] == str(world / "chests") and pairs["--base"] == str(world / "base")
    assert {"--domain=chest_xray", "--window=0:200", "steps=3", "vae.crop=16"} <= set(handed_over)
    assert (
        handed_over[handed_over.index("--accept") + 1],
        handed_over[handed_over.index("--workers") + 1],
    ) == ("blank", "0")


def test_a_check_of_the_data_reads_as_it_is_told_and_trains_nothing(
    world: Path, handed_over: list[str]
) -> None:
    run("adapt", "--data", world / "chests", "--check-only", "--domain", "chest_xray", "--size", 32, "--json")
    reading = ["--check-only", "--domain=chest_xray", "--size=32", "--json"]
    assert handed_over == ["training", "adapt", "--data", str(world / "chests"), *reading]


def test_the_help_names_recipes_and_groups() -> None:
    shown = " ".join(run("adapt", "--help").stdout.split())
    for words in (
        "--recipe unet",
        "--rank 16 rank of the LoRA",
        "--vae.crop 64",
        "--inversion.vectors 4",
        "--window",
    ):
        assert words in shown


@pytest.mark.parametrize(("size", "found"), [(32, False), (64, True)])
def test_the_size_decides_what_is_too_small(world: Path, size: int, found: bool) -> None:
    command = ["adapt", "--data", str(world / "chests"), "--check-only", "--json", "--size", str(size)]
    done = subprocess.run(
        [sys.executable, "-m", "training", *command], capture_output=True, text=True, timeout=200
    )
    codes = {finding["code"] for finding in json.loads(done.stdout)["findings"]}
    assert ("smaller-than-size" in codes) == found
