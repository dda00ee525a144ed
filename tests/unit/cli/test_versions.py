"""`vouch versions` and `vouch lineage`."""

from __future__ import annotations

from tests.command_line import run, run_json
from tests.edged_server import EdgedServer
from vouch.testing import CANDIDATE


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
