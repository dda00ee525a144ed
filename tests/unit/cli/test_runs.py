"""`vouch train` and `vouch runs`."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from tests.command_line import run, run_json
from tests.edged_server import EdgedServer
from vouch.recipes import RECIPES
from vouch.storage.state import StateFolder
from vouch.testing import TOKENS, flat_png


def test_training_is_followed_to_its_end(system: EdgedServer) -> None:
    run_ = run_json("train", "reward", "--steps", 500, "--lr=1e-4", "--members", 5, "--simulated")
    assert (run_["state"], run_["version_name"]) == ("SUCCEEDED", "reward-2")
    assert run_["config"] == {"steps": 500, "lr": 1e-4, "members": 5, "kinds": ["human", "simulated"]}
    folder = StateFolder(system.state).run("run-1")
    folder.mkdir(parents=True)
    (folder / "images.png").touch()
    shown = run("runs", "show", "run-1").stdout
    assert "vouch rollout start reward-2" in shown
    assert re.search(r"figures +figure +value +unit\s+loss +0\.", shown)
    assert re.search(rf"images +{re.escape(str(folder / 'images.png'))}", shown)
    access = json.loads((Path(system.state) / "access.json").read_text())
    address = ("--address", access["address"], "--token", TOKENS["operator"])
    assert "images.png" not in run("runs", "show", "run-1", *address).stdout, "it may be another system"


def test_help_names_the_settings_of_a_run() -> None:
    shown = " ".join(run("train", "align", "--help").stdout.split())  # wherever the lines break
    for expected in (
        "--method draft draft, reward_gradient, reward_weighted, kto",
        "--anchor 5.0 weight of",
        "--reward - reward version",
        "dpo: Diffusion-DPO (2311.12908): E[-log σ(-β·",
        "--dpo.beta 2000.0 β, weight of the divergence from the parent",
        "--validation.every 25 optimizer steps between validations",
    ):
        assert expected in shown


def test_the_help_of_runs_names_every_kind_of_run() -> None:
    assert set(RECIPES) <= set(re.findall(r"\w+", run("runs", "list", "--help").stdout))


def test_a_setting_of_one_method_is_given_by_its_dotted_name(system: EdgedServer) -> None:
    run_ = run_json(
        "train", "align", "--method", "nft", "--nft.beta", "0.1", "--set", "nft.groups=4", "--set=lr=1e-4"
    )
    assert run_["config"] == {"method": "nft", "nft.beta": 0.1, "nft.groups": 4, "lr": 1e-4}
    result = run("train", "align", "--caution", "2", code=2)
    assert "There is no setting caution. Setting caution is now std_penalty." in result.stderr


def test_pretraining_without_a_system_hands_over_to_the_training_command(tmp_path: Path) -> None:
    data = tmp_path / "cells.parquet"
    pq.write_table(pa.table({"image": [flat_png(1)]}), data)  # no labels: training refuses it by name
    command = [sys.executable, "-m", "vouch", "train", "pretrain", "--data", str(data)]
    done = subprocess.run(
        [*command, "--state", str(tmp_path / "nothing"), "--out", str(tmp_path / "model"), "--steeps", "3"],
        capture_output=True, text=True, timeout=200,
    )  # fmt: skip
    assert "Training here instead" in done.stderr
    assert "steeps" in done.stderr
    assert done.returncode == 2
    assert "Traceback" not in done.stderr


def test_a_failed_run_ends_with_code_1_and_its_reason(system: EdgedServer) -> None:
    result = run("train", "align", "--name", "diverges", code=1)
    assert "loss is not finite" in result.stderr


def test_a_detached_run_is_queued_listed_watched_and_cancelled(system: EdgedServer) -> None:
    assert run_json("train", "align", "--detach")["state"] == "QUEUED"
    assert [one["run_id"] for one in run_json("runs", "list", "--kind", "align")["runs"]] == ["run-1"]
    lines = run("runs", "watch", "run-1", "--json").stdout.splitlines()
    assert json.loads(lines[-1])["state"] == "SUCCEEDED"
    assert run_json("runs", "cancel", "run-1")["state"] == "CANCELLED"
