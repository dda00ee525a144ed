"""`vouch concept`."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tests.command_line import run, run_json
from tests.edged_server import EdgedServer


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
