from __future__ import annotations

import json
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from typer.testing import CliRunner

from services import logs
from services.environment import LOGS_FOLDER
from tests.edged_server import EdgedServer
from vouch.cli.main import root
from vouch.formats import images
from vouch.storage.state import StateFolder
from vouch.testing import CANDIDATE, GENERATOR, REWARD, TOKENS, flat_png


@pytest.fixture
def system(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[EdgedServer]:
    with EdgedServer(tmp_path / "state") as running:
        monkeypatch.setenv("VOUCH_STATE", str(running.state))
        monkeypatch.setenv("COLUMNS", "200")
        yield running


def run(*arguments: object, code: int = 0, keys: str | None = None) -> Any:
    result = CliRunner().invoke(root, [str(a) for a in arguments], input=keys)
    assert result.exit_code == code, result.output
    assert "Traceback" not in result.output
    return result


def run_json(*arguments: object, code: int = 0, keys: str | None = None) -> Any:
    return json.loads(run(*arguments, "--json", code=code, keys=keys).stdout)


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


def test_files_and_stored_images_are_scored(system: EdgedServer, tmp_path: Path) -> None:
    (tmp_path / "bright.png").write_bytes(flat_png(255))
    stored = run_json("generate", "neutrophil", "--seed", 51)["images"][0]["digest"]
    scores = run_json("score", tmp_path / "bright.png", stored, "--prompt", "neutrophil")["scores"]
    assert [round(one["score"], 2) for one in scores] == [1.0, 0.2]
    assert "cell_type" in run("score", stored).stdout


def test_filter_keeps_the_bright_images_and_writes_every_score(system: EdgedServer, tmp_path: Path) -> None:
    source, out = _image_folder(tmp_path / "in"), tmp_path / "out"
    summary = run_json("filter", source, out, "--min-score", 0.5)
    assert (summary["accepted"], summary["rejected"], summary["failed"]) == (20, 20, 1)
    rows = {row["key"]: row for row in pq.read_table(out / "ledger.parquet").to_pylist()}
    assert rows["200.png"]["status"] == "accepted"
    assert (out / rows["200.png"]["file"]).read_bytes() == flat_png(200)
    assert rows["005.png"]["score"] == pytest.approx(5 / 255)
    assert "not an image" in rows["broken.png"]["error"]


def test_filter_over_the_wire_resumes_after_the_system_went_away(system: EdgedServer, tmp_path: Path) -> None:
    source, out = _image_folder(tmp_path / "in"), tmp_path / "out"
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
    source, out = _image_folder(tmp_path / "in"), tmp_path / "out"
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
    source, out = _image_folder(tmp_path / "in"), tmp_path / "out"
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


def test_of_several_images_a_bad_one_is_named_and_the_others_are_scored(
    system: EdgedServer, tmp_path: Path
) -> None:
    for name, data in (("a", flat_png(255)), ("b", b"no image"), ("c", flat_png(51))):
        (tmp_path / f"{name}.png").write_bytes(data)
    files = [tmp_path / f"{name}.png" for name in "abc"]
    result = run("score", *files, "--prompt", "neutrophil", "--json", code=2)
    told = json.loads(result.stdout)
    assert [(one["item_id"], round(one["score"], 2)) for one in told["scores"]] == [
        (str(files[0]), 1.0), (str(files[2]), 0.2),
    ]  # fmt: skip
    assert [one["image"] for one in told["failures"]] == [str(files[1])]
    assert "not an image" in result.stderr


def _image_folder(folder: Path) -> Path:
    folder.mkdir()
    for level in [*range(20), *range(200, 220)]:
        (folder / f"{level:03d}.png").write_bytes(flat_png(level))
        (folder / f"{level:03d}.txt").write_text("neutrophil")
    (folder / "broken.png").write_bytes(b"GIF is what this is not")
    (folder / "broken.txt").write_text("neutrophil")
    return folder


def test_images_are_rated_over_a_pipe_and_a_changed_mind_supersedes(system: EdgedServer) -> None:
    run("generate", "neutrophil", "--count", 2, "--seed", 3)
    answer = run_json("rate", "--rater", "ada", keys="yny" + "b" + "nnn" + "yyu")
    assert (answer["rated"], answer["corrected"]) == (2, 1)
    first, again, second = system.ratings
    assert again.supersedes == first.rating_id
    assert again.image_digest == first.image_digest != second.image_digest
    assert all(rating.ui_version.startswith("cli-") for rating in system.ratings)
    assert len(run_json("ratings", "list")["ratings"]) == 2
    assert run_json("rate", "--rater", "ada", keys="yyy")["rated"] == 0


def test_a_skipped_image_gives_way_to_the_next(system: EdgedServer) -> None:
    run("generate", "neutrophil", "--count", 3)
    assert run_json("rate", "--rater", "ada", keys="s" + "yyy" + "yyy")["rated"] == 2


def test_ratings_travel_through_files_and_come_back_once(system: EdgedServer, tmp_path: Path) -> None:
    run("generate", "neutrophil", "--count", 2)
    run("rate", "--rater", "ada", keys="yny" + "nun")
    for name in ("ratings.csv", "ratings.parquet"):
        assert run_json("ratings", "export", tmp_path / name)["ratings"] == 2
        again = run_json("ratings", "import", tmp_path / name)
        assert (again["recorded"], again["already_recorded"], again["failed"]) == (0, 2, 0)
    system.ratings.clear()
    system.by_request.clear()
    assert run_json("ratings", "import", tmp_path / "ratings.csv")["recorded"] == 2


def test_an_import_names_the_rows_that_were_refused(system: EdgedServer, tmp_path: Path) -> None:
    run("generate", "neutrophil")
    run("rate", "--rater", "ada", keys="yyy")
    file = tmp_path / "ratings.csv"
    run("ratings", "export", file)
    system.images.clear()
    system.by_request.clear()
    result = run("ratings", "import", file, "--json", code=2)
    assert "row 1: There is no image" in result.stderr
    assert json.loads(result.stdout)["failed"] == 1


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
    assert told == {"stored": 12, "already_stored": 0, "failed": 0, "prompts_filled": 0, "failures": []}
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
    folder = _image_folder(tmp_path / "in")
    (folder / "empty.png").write_bytes(b"")
    (folder / "scan.dcm").write_bytes(b"")
    (folder / "000.txt").write_bytes("für".encode("latin-1"))
    result = run("review", "add-real", folder, "--prompt", "platelet", "--json", code=2)
    told = json.loads(result.stdout)
    assert (told["stored"], told["failed"], told["prompts_filled"]) == (39, 4, 0)
    assert {one["image"] for one in told["failures"]} == {"000.png", "broken.png", "empty.png", "scan.dcm"}
    assert "empty.png: The image is empty." in result.stderr


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


def test_simulated_ratings_are_labelled_in_the_list(system: EdgedServer) -> None:
    from vouch.pb.v1 import feedback_pb2

    rating = feedback_pb2.Rating(
        image_digest="d" * 64,
        rater="sim-1",
        kind="RATING_KIND_SIMULATED",
        verdict="VERDICT_PLAUSIBLE",
        rating_id="r",
    )
    rating.created_at.GetCurrentTime()
    system.ratings.append(rating)
    assert "simulated" in run("ratings", "list").stdout


def test_versions_and_lineage_are_shown(system: EdgedServer) -> None:
    assert [v["name"] for v in run_json("versions", "--kind", "reward")["versions"]] == ["starter-reward"]
    assert "generator-2" in run("versions").stdout
    assert run_json("versions", "generator-2")["digest"] == CANDIDATE
    shown = run("versions", "generator-2").stdout
    for expected in (
        "against starter-generator",
        "refuse",
        "coverage changed by -4.1 points",
        "0.700 to 0.900",
    ):
        assert expected in shown
    assert "refuse" not in run("versions", "starter-reward").stdout
    shown = run("versions", "starter-reward").stdout
    assert "probability that an expert finds it plausible" in shown and "0.01 to 0.04" in shown
    tree = run("lineage", "generator-2").stdout
    for expected in (
        "vouch train align",
        "align-1",
        "ratings  2, digest",
        "plausible 0.9",
        "starter-generator",
    ):
        assert expected in tree
    chain = run_json("lineage", "generator-2")["versions"]
    assert chain[0]["lineage"]["rating_ids"] == ["rating-1", "rating-2"]


def test_a_rollout_goes_up_by_steps_and_back(system: EdgedServer) -> None:
    assert run_json("rollout", "start", "generator-2", "--reason", "better")["percent"] == 5
    assert run_json("rollout", "promote")["percent"] == 25
    assert run_json("rollout", "promote", "--wait")["state"] == "COMPLETED"
    assert system.champion == CANDIDATE
    assert run_json("rollout", "rollback")["state"] == "ROLLED_BACK"
    shown = run("rollout", "status", "rollout-1").stdout
    for expected in ("start", "better", "promote", "roll_back"):
        assert expected in shown
    assert "ROLLED_BACK" in run("rollout", "status").stdout
    lines = run("rollout", "watch", "rollout-1", "--json").stdout.splitlines()
    assert [json.loads(line)["rollout_id"] for line in lines] == ["rollout-1"] * 2


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


def test_a_concept_is_sub_labelled_and_taught(system: EdgedServer, tmp_path: Path) -> None:
    run("generate", "neutrophil", "--count", 3)
    name = ("band neutrophil", "--parent", "neutrophil")
    answer = run_json("concept", "label", *name, "--rater", "ada", "--limit", 2, keys="y" + "b" + "n" + "u")
    assert (answer["rated"], answer["corrected"]) == (2, 1)
    said = [dict(rating.answers) for rating in system.ratings]
    assert [list(one) for one in said] == [["concept_band_neutrophil"]] * 3
    assert {rating.verdict for rating in system.ratings} == {3}  # unsure: nothing was said of it
    assert run_json("concept", "label", *name, "--rater", "ada", keys="yyy")["rated"] == 1
    (tmp_path / "cells.parquet").touch()
    columns = ("--column", "subtype", "--value", "BNE", "--other", "SNE")
    taught = run_json("concept", "add", *name, "--data", tmp_path / "cells.parquet", *columns, "--steps", 3)
    assert taught["state"] == "SUCCEEDED"
    assert taught["config"] == {
        "concept": "band neutrophil", "kind_of": "neutrophil", "data": str(tmp_path / "cells.parquet"),
        "column": "subtype", "value": "BNE", "others": ["SNE"], "steps": 3,
    }  # fmt: skip


@pytest.mark.parametrize(
    ("arguments", "code", "says"),
    [
        (
            ("band neutrophil", "--parent", "unicorn"),
            2,
            "knows no 'unicorn'.*lymphocyte, neutrophil, platelet",
        ),
        (("platelet", "--parent", "neutrophil"), 5, "knows 'platelet' already"),
        (("Band", "--parent", "neutrophil"), 2, "use lower-case words"),
        (("band", "--parent", "neutrophil", "--column", "subtype"), 2, "give them with --data"),
        (("band", "--parent", "neutrophil", "--data", __file__, "--column", "a"), 2, "belong together"),
        (("band", "--parent", "neutrophil", "--speed", "1"), 2, "no setting speed"),
    ],
)
def test_a_concept_that_cannot_be_taught_is_refused_before_it_is_queued(
    system: EdgedServer, arguments: tuple[str, ...], code: int, says: str
) -> None:
    assert re.search(says, run("concept", "add", *arguments, code=code).stderr)
    assert not system.runs


def test_help_names_the_settings_of_a_run() -> None:
    shown = " ".join(run("train", "align", "--help").stdout.split())  # wherever the lines break
    for expected in (
        "--method draft draft, reward_gradient, reward_weighted, kto",
        "--anchor 5.0 weight of",
        "--reward - reward version",
        "dpo: Diffusion-DPO (2311.12908): E[-log σ(-β·",
        "--dpo.beta 2000.0 β, weight of the divergence from the parent",
        "--validation.every 25 steps between validation points",
    ):
        assert expected in shown


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


def test_status_shows_what_serves_and_what_could_not_be_loaded(system: EdgedServer) -> None:
    shown = run("status").stdout
    for expected in ("starter-generator", "1 of 2", "converging", "converged", "unet is truncated"):
        assert expected in shown
    assert run_json("status")["slots"][0]["champion_name"] == "starter-generator"


def test_status_says_when_images_are_drawn_whole(system: EdgedServer) -> None:
    assert "drawn whole" not in run("status").stdout
    system.fallback_reason = "HeunDiscreteScheduler is not among those that share steps."
    assert "drawn whole" in run("status").stdout
    assert "HeunDiscreteScheduler" in run_json("status")["fallback_reason"]


def test_every_command_has_help_with_an_example() -> None:
    for path in _commands(root):
        shown = run(*path, "--help").stdout
        assert "Examples:" in shown, path
        assert "--json" in shown, path


def _commands(app: Any, path: tuple[str, ...] = ()) -> Iterator[tuple[str, ...]]:
    for one in app.registered_commands:
        yield (*path, one.name)
    for group in app.registered_groups:
        yield from _commands(group.typer_instance, (*path, group.name) if group.name else path)


def test_help_imports_nothing_heavy() -> None:
    script = (
        "import sys; from vouch.cli.main import root\n"
        "try: root(['--help'])\n"
        "except SystemExit: pass\n"
        "heavy = {'torch', 'ray', 'diffusers', 'grpc', 'numpy', 'pyarrow', 'sqlalchemy', 'PIL'} & set(sys.modules)\n"
        "sys.exit(', '.join(sorted(heavy)) or 0)"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr


def test_a_real_process_writes_json_alone_to_stdout(system: EdgedServer) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "vouch", "generate", "neutrophil", "--json", "--state", str(system.state)],
        capture_output=True, text=True, timeout=120,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["images"][0]["digest"] == images.digest(flat_png(0))


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


def test_the_reference_of_a_defect_leads_to_its_traceback(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = StateFolder(tmp_path / "state").create()
    monkeypatch.setenv("VOUCH_STATE", str(folder.root))
    monkeypatch.setenv(LOGS_FOLDER, str(folder.logs))
    monkeypatch.setattr(logs.log, "handlers", [])
    logs.refused(
        reference="aa11", code="INVALID_ARGUMENT", reason="UNKNOWN_LABEL", rpc="GenerateImages", role="client"
    )
    try:
        raise RuntimeError("the lamp broke")
    except RuntimeError as error:
        logs.failed(
            error, reference="bb22", code="INTERNAL", reason="INTERNAL", rpc="GetRun", role="operator"
        )
    with next(folder.logs.glob("*.jsonl")).open("a") as file:
        file.write('{"at": "half a li')
    shown = CliRunner().invoke(root, ["logs", "bb22"])  # the one command whose answer is a traceback
    assert (shown.exit_code, "RuntimeError: the lamp broke" in shown.stdout) == (0, True)
    calls = run_json("logs")["calls"]
    assert [(call["reference"], "trace" in call) for call in calls] == [("aa11", False), ("bb22", False)]
    assert "UNKNOWN_LABEL" in run("logs").stdout
    assert "Nothing is kept under cc33" in run("logs", "cc33", code=4).output
    for handler in logs.log.handlers:
        handler.close()


def test_logs_where_no_system_ever_was_say_so(tmp_path: Path) -> None:
    assert "No system has been started" in run("logs", "--state", tmp_path / "nowhere", code=4).output
