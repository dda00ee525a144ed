"""`vouch rollout`."""

from __future__ import annotations

import json

from tests.command_line import run, run_json
from tests.edged_server import EdgedServer
from vouch.testing import CANDIDATE


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
