"""`vouch rate` and `vouch ratings`."""

from __future__ import annotations

import json
from pathlib import Path

from tests.command_line import run, run_json
from tests.edged_server import EdgedServer


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
